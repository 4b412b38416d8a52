//! Completions, in the shell that they are for.

use std::process::Command;

use super::{catena, output, stderr, stdout};

/// What bash offers for a line whose last word is being typed.
fn offered(words: &[&str]) -> Vec<String> {
    let (current, before) = words.split_last().unwrap();
    // What bash does at a press of the tabulator.
    let script = format!(
        r#"eval "$("$0" completions bash)"
        function=$(complete -p catena | sed 's/.*-F \([^ ]*\).*/\1/')
        COMP_WORDS=({line}) COMP_CWORD={place}
        "$function" catena "{current}" "{previous}"
        printf '%s\n' "${{COMPREPLY[@]}}""#,
        line = words.join(" "),
        place = words.len() - 1,
        previous = before.last().unwrap(),
    );
    let program = env!("CARGO_BIN_EXE_catena");
    let done = output(Command::new("bash").args(["-c", &script, program]));
    assert!(done.status.success(), "{}", stderr(&done));
    let mut offered: Vec<_> = stdout(&done).lines().map(str::to_owned).collect();
    offered.sort();
    offered
}

#[test]
fn bash_offers_commands_and_flags() {
    assert_eq!(offered(&["catena", "do"]), ["doctor"]);
    assert_eq!(offered(&["catena", "ctl", "sv"]), ["svc"]);
    assert_eq!(offered(&["catena", "ctl", "svc", "over"]), ["override"]);
    assert_eq!(
        offered(&["catena", "run", "--gateway-l"]),
        ["--gateway-listen"]
    );
    let shells = offered(&["catena", "completions", ""]);
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(shells.iter().any(|offered| offered == shell), "{shells:?}");
        let done = output(catena().args(["completions", shell]));
        assert!(done.status.success() && stdout(&done).contains("doctor"));
    }
    let refused = output(catena().args(["completions", "tcsh"]));
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
}
