"""A web server that greets."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 8080


def greeting(path):
    """What somebody is told who asks for a path."""
    name = path.strip("/")
    return f"Hello from the sample, {name}!" if name else "Hello from the sample!"


class Greeter(BaseHTTPRequestHandler):
    def do_GET(self):
        body = greeting(self.path).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("", PORT), Greeter)
    print(f"listening on {PORT}", flush=True)
    server.serve_forever()
