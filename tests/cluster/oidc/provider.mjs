// A provider of OpenID Connect for tests: the npm package oidc-provider, with its own pages for signing in. Arguments: its
// port, the client's id and secret, where the client wants people sent back to. Whoever signs in is who they say, with any
// password; who begins with "ops-" is in the group "ops".
import { Provider } from "oidc-provider";

const [port, clientId, clientSecret, redirectUri] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;

const provider = new Provider(issuer, {
  clients: [{ client_id: clientId, client_secret: clientSecret, redirect_uris: [redirectUri] }],
  claims: {
    openid: ["sub"],
    profile: ["preferred_username", "groups"],
    email: ["email", "email_verified"],
  },
  cookies: { keys: ["of a test"] },
  pkce: { required: () => true },
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({
      sub: id,
      preferred_username: id,
      email: `${id}@example.com`,
      email_verified: true,
      groups: ["staff", ...(id.startsWith("ops-") ? ["ops"] : [])],
    }),
  }),
});

provider.on("server_error", (_, error) => console.error(error));
provider.listen(Number(port), "127.0.0.1", () => console.error(`listening issuer=${issuer}`));
