//! `token`: made once, kept as a hash.

use std::fs;

use crate::support::Sandbox;

#[test]
fn a_token_is_shown_once_and_its_hash_is_kept() {
    let sandbox = Sandbox::new("token");
    let token = sandbox.run("token create ci --scope read --tokens-file tokens").expect(0).stdout;
    let token = token.trim_end();
    assert!(token.len() > 30, "{token}");
    let file = fs::read_to_string(sandbox.path("tokens")).unwrap();
    assert!(!file.contains(token) && file.contains("ci:read:"), "{file}");
    let outcome = sandbox.run("token create ops --scope write --expires 30d --tokens-file tokens --json").expect(0);
    assert_eq!(outcome.events()[0]["scope"], "write");
    let list = sandbox.run("token list --tokens-file tokens").expect(0).stdout;
    assert!(list.contains("ci") && list.contains("never") && list.contains("ops"), "{list}");
    assert!(!list.contains(token));
    assert_eq!(sandbox.run("token list --tokens-file tokens --json").expect(0).events().len(), 2);
    let outcome = sandbox.run("token create ci --scope read --tokens-file tokens").expect(1);
    assert!(outcome.stderr.contains("already") && outcome.stderr.contains("hint: "), "{outcome:#?}");
    sandbox.run("token remove ci --tokens-file tokens").expect(0);
    sandbox.run("token remove ci --tokens-file tokens").expect(1);
    assert!(!sandbox.run("token list --tokens-file tokens").expect(0).stdout.contains("ci"));
}

#[test]
fn the_file_is_that_of_the_configuration() {
    let sandbox = Sandbox::new("token-conf");
    sandbox.write("conf", format!("[api]\ntokens_file = {}\n", sandbox.path("there").display()).as_bytes());
    assert!(sandbox.run("token list --config-file conf").expect(0).stdout.starts_with("NAME"));
    sandbox.run("token create a --scope read --config-file conf").expect(0);
    assert!(sandbox.path("there").exists());
}
