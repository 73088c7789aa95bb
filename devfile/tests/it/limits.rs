use devfile::Code;

use crate::read;

fn codes(text: &str) -> Vec<Code> {
    read(text)
        .diagnostics
        .iter()
        .map(|found| found.code)
        .collect()
}

#[test]
fn each_limit_has_its_own_error() {
    let head = "schemaVersion: 2.2.0\nattributes:\n  a: ";
    let large = format!("{head}{}\n", "x".repeat(3 * 1024 * 1024));
    assert_eq!(codes(&large), [Code::DocumentTooLarge]);

    let deep_flow = format!("{head}{}{}\n", "[".repeat(200), "]".repeat(200));
    assert_eq!(codes(&deep_flow), [Code::TooDeep]);
    let deeper_flow = format!("{head}{}\n", "[".repeat(100_000));
    assert_eq!(codes(&deeper_flow), [Code::TooDeep]);
    let mut deep_block = head.to_owned();
    for depth in 2..100 {
        deep_block.push_str(&format!("\n{}a:", " ".repeat(depth)));
    }
    assert_eq!(codes(&deep_block), [Code::TooDeep]);

    let many = format!("{head}[{}]\n", "1,".repeat(260_000));
    assert_eq!(codes(&many), [Code::TooManyValues]);

    let components: String = (0..10_001)
        .map(|at| format!("- {{name: c{at}, volume: {{}}}}\n"))
        .collect();
    assert_eq!(
        codes(&format!("schemaVersion: 2.2.0\ncomponents:\n{components}")),
        [Code::TooManyElements]
    );
}

#[test]
fn alias_bombs_are_stopped() {
    let mut bomb =
        "schemaVersion: 2.2.0\nattributes:\n  a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}", level - 1);
        bomb.push_str(&format!(
            "  a{level}: &a{level} [{}]\n",
            vec![below; 9].join(", ")
        ));
    }
    assert_eq!(codes(&bomb), [Code::AliasBomb]);

    let text = format!(
        "schemaVersion: 2.2.0\nattributes:\n  a: &a {}\n  b: [{}]\n",
        "x".repeat(100_000),
        vec!["*a"; 100].join(", ")
    );
    assert_eq!(codes(&text), [Code::AliasBomb]);

    let merge = "schemaVersion: 2.2.0\nattributes:\n  a: &a {b: *a}\n";
    assert_eq!(codes(merge), [Code::YamlSyntax]);
}

#[test]
fn variables_cannot_grow_without_bound() {
    let text = format!(
        "schemaVersion: 2.2.0\nvariables: {{a: '{}'}}\ncomponents:\n- name: c\n  container:\n    image: x\n    args: ['{}']\n",
        "y".repeat(10_000),
        "{{a}}".repeat(1_000)
    );
    assert_eq!(codes(&text), [Code::VariableTooLarge]);
    let nested = format!(
        "schemaVersion: 2.2.0\nvariables: {{a: '{{{{a}}}}{{{{a}}}}'}}\ncomponents:\n- name: c\n  container:\n    image: x\n    args: ['{}']\n",
        "{{a}}".repeat(40)
    );
    assert_eq!(codes(&nested), [Code::VariableTooLarge]);
}

#[test]
fn a_long_list_of_problems_is_cut_and_counted() {
    let extra: String = (0..1_000).map(|at| format!("x{at}: 1\n")).collect();
    let found = read(&format!("schemaVersion: 2.2.0\n{extra}"));
    assert_eq!(found.diagnostics.len(), 201);
    let last = found.diagnostics.last().unwrap();
    assert_eq!(last.code, Code::TooManyDiagnostics);
    assert_eq!(last.message, "800 more are not shown");
}

/// Inputs that took time that grows faster than they do in other readers. Ten times as much may take at most about
/// ten times as long; the bound is wide, for a busy machine.
#[test]
fn time_grows_with_the_input() {
    type Make = fn(usize) -> String;
    let cases: [(&str, Make); 4] = [
        ("references", |n| {
            format!(
                "schemaVersion: 2.2.0\nvariables: {{a: b}}\ncomponents:\n- name: c\n  container: {{image: x, args: ['{}']}}\n",
                "{{a}}".repeat(n)
            )
        }),
        ("braces", |n| {
            format!(
                "schemaVersion: 2.2.0\nvariables: {{a: b}}\ncomponents:\n- name: c\n  container:\n    image: x\n    args:\n    - |\n      {}\n      x}}}}\n",
                "{{ ".repeat(n)
            )
        }),
        ("keys", |n| {
            let keys: String = (0..n).map(|at| format!("  k{at}: 1\n")).collect();
            format!("schemaVersion: 2.2.0\nattributes:\n{keys}")
        }),
        ("composites", |n| {
            let n = n.min(9_000);
            let commands: String = (1..n)
                .map(|at| {
                    format!(
                        "- {{id: k{at}, composite: {{commands: [k{}, k{}]}}}}\n",
                        at - 1,
                        at / 2
                    )
                })
                .collect();
            format!(
                "schemaVersion: 2.2.0\ncomponents: [{{name: c, container: {{image: x}}}}]\ncommands:\n- {{id: k0, exec: {{component: c, commandLine: x}}}}\n{commands}"
            )
        }),
    ];
    for (name, make) in cases {
        let text = make(20_000);
        let start = std::time::Instant::now();
        let found = read(&text);
        let took = start.elapsed();
        assert!(took.as_secs() < 10, "{name}: {took:?}");
        assert!(
            !found.has_errors(),
            "{name}: {:?}",
            found.diagnostics.first()
        );
    }
}
