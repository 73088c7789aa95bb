use super::*;

/// The table as it is read by people.
const WRITTEN: &str = include_str!("../../RIGHTS.md");

const ME: u64 = 1;

fn person(role: Role, by: Proof) -> Principal {
    Principal::Person {
        user_id: ME,
        role,
        by,
    }
}

/// The columns: how somebody stands, and to what.
fn columns() -> Vec<(&'static str, Principal, Vec<Resource>)> {
    // What is shown in place of this is a column of its own.
    let user = || person(Role::User, Proof::Socket);
    let things = |relation, owner| {
        vec![
            Resource::Server,
            Resource::Agent { id: 1, relation },
            Resource::Project { relation },
            Resource::Workspace { owner },
        ]
    };
    let stranger = || things(Relation::None, ME + 1);
    let member = |role| things(Relation::Member(role), ME + 1);
    vec![
        ("stranger", Principal::Anonymous, stranger()),
        ("user", user(), stranger()),
        ("invited", user(), things(Relation::Invited, ME + 1)),
        ("developer", user(), member(MemberRole::Developer)),
        ("maintainer", user(), member(MemberRole::Maintainer)),
        ("owner", user(), member(MemberRole::Owner)),
        ("workspace's owner", user(), things(Relation::None, ME)),
        (
            "administrator",
            person(Role::Administrator, Proof::Socket),
            stranger(),
        ),
        ("agent", Principal::Agent { agent_id: 1 }, stranger()),
        ("webhook", Principal::Webhook { agent_id: 1 }, stranger()),
    ]
}

/// Whether it may on any of these: each action is about one kind of thing.
fn may(principal: &Principal, action: Action, resources: &[Resource]) -> bool {
    let mut all = resources.iter();
    all.any(|it| authorize(principal, action, *it) == Decision::Allowed)
}

/// What a person with every standing needs to show.
fn shows(action: Action) -> String {
    let resources = [
        Resource::Server,
        Resource::Agent {
            id: 1,
            relation: Relation::Member(MemberRole::Owner),
        },
        Resource::Project {
            relation: Relation::Member(MemberRole::Owner),
        },
        Resource::Workspace { owner: ME },
    ];
    let by = |proof| may(&person(Role::Administrator, proof), action, &resources);
    let token = |scopes| Proof::Token {
        token_id: 1,
        scopes,
    };
    let scopes: Vec<_> = Scope::ALL
        .into_iter()
        .filter(|it| by(token(vec![*it].into())))
        .map(|it| format!("`{}`", it.as_str()))
        .collect();
    if by(token(Vec::new().into())) {
        "any".into()
    } else if !scopes.is_empty() {
        scopes.join(", ")
    } else if by(Proof::Session) {
        "no token: a session or the socket".into()
    } else if by(Proof::Socket) {
        "the socket".into()
    } else {
        "–".into()
    }
}

fn table() -> String {
    let columns = columns();
    let names: Vec<_> = columns.iter().map(|(name, ..)| *name).collect();
    let mut lines = vec![
        format!("| | {} | token's scope |", names.join(" | ")),
        format!("|---|{}---|", ":-:|".repeat(columns.len())),
    ];
    for action in Action::ALL {
        let signs: Vec<_> = columns
            .iter()
            .map(|(_, principal, resources)| {
                if may(principal, *action, resources) {
                    "yes"
                } else {
                    ""
                }
            })
            .collect();
        lines.push(format!(
            "| {} | {} | {} |",
            action.name(),
            signs.join(" | "),
            shows(*action)
        ));
    }
    lines.join("\n")
}

#[test]
fn the_table_is_as_written() {
    let table = table();
    println!("{table}");
    let written: Vec<_> = WRITTEN
        .lines()
        .filter(|line| line.starts_with('|'))
        .collect();
    assert_eq!(table, written.join("\n"), "kas-stub/RIGHTS.md is not it");
}

#[test]
fn only_its_owner_opens_a_workspace() {
    let open = |principal: &Principal| {
        authorize(
            principal,
            Action::OpenWorkspace,
            Resource::Workspace { owner: ME },
        )
    };
    let all = Scopes::all();
    for by in [
        Proof::Socket,
        Proof::Session,
        Proof::Token {
            token_id: 5,
            scopes: all,
        },
    ] {
        assert_eq!(open(&person(Role::User, by)), Decision::Allowed);
        let other = Principal::Person {
            user_id: ME + 1,
            role: Role::Administrator,
            by,
        };
        assert_eq!(open(&other), Decision::Forbidden);
    }
    assert_eq!(open(&Principal::Anonymous), Decision::Unauthenticated);
}

#[test]
fn an_agent_serves_itself_and_nobody_else() {
    let serve = |id| {
        let relation = Relation::None;
        let resource = Resource::Agent { id, relation };
        authorize(
            &Principal::Agent { agent_id: 1 },
            Action::ServeAgent,
            resource,
        )
    };
    assert_eq!(serve(1), Decision::Allowed);
    assert_eq!(serve(2), Decision::Forbidden);
    let server = authorize(
        &Principal::Agent { agent_id: 1 },
        Action::ServeAgent,
        Resource::Server,
    );
    assert_eq!(server, Decision::Forbidden);
}

#[test]
fn a_narrow_token_is_told_what_it_lacks() {
    let scopes = Scopes::from(vec![Scope::ReadApi]);
    let by = Proof::Token {
        token_id: 1,
        scopes,
    };
    let administrator = person(Role::Administrator, by);
    let refused = authorize(&administrator, Action::ManageUsers, Resource::Server);
    assert_eq!(refused, Decision::TokenTooNarrow(&[Scope::Api]));
    // Who may not anyway is not told of scopes.
    let user = person(Role::User, by);
    let refused = authorize(&user, Action::ManageUsers, Resource::Server);
    assert_eq!(refused, Decision::Forbidden);
}

#[test]
fn scopes_are_sets() {
    let some = Scopes::from(vec![Scope::K8sProxy, Scope::Api, Scope::Api]);
    assert_eq!(some.names(), ["api", "k8s_proxy"]);
    assert!(Scopes::all().covers(some) && !some.covers(Scopes::all()) && !some.is_empty());
    let text = serde_json::to_string(&some).unwrap();
    assert_eq!(text, r#"["api","k8s_proxy"]"#);
    assert_eq!(serde_json::from_str::<Scopes>(&text).unwrap(), some);
}
