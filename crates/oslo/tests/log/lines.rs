//! Our lines against those of oslo.log, to the byte: those that are kept here, and those of the library itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value as Json;
use testkit::disk::{SkipReason, skip};

use crate::events;
use crate::kit::{Place, of_file, with_log};

const CASES: &str = include_str!("cases.json");
/// Of the versions of Python's packages that stand in it.
const EXPECTED: &str = include_str!("expected.json");

#[test]
fn lines_are_those_of_oslo_log() {
    let cases: Json = serde_json::from_str(CASES).unwrap();
    let expected: Json = serde_json::from_str(EXPECTED).unwrap();
    let mut wrong = Vec::new();
    for case in cases.as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let line = line_of(case);
        if expected["lines"][name] != *line {
            wrong.push(format!("{name}\nours:   {line}theirs: {}", expected["lines"][name].as_str().unwrap_or("-")));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.as_array().unwrap().len(), wrong.join("\n"));
}

/// What we write for a case, as if the event stood in the first line of its file.
fn line_of(case: &Json) -> String {
    let place = Place::new();
    let options = case["options"].as_object().unwrap().iter();
    let options = options.map(|(name, value)| match value {
        // The sign of interpolation is doubled in files; these have none.
        Json::String(text) => format!("{name} = \"{text}\"\n"),
        value => format!("{name} = {value}\n"),
    });
    let mut settings = of_file(&options.collect::<String>()).unwrap();
    settings.product = "manila".into();
    settings.version = "23.0.1".into();
    settings.levels = vec!["manila=trace".into()];
    settings.file = Some(place.path("log"));
    let code_line = with_log(&settings, |_| events::emit(case["event"].as_str().unwrap())).unwrap();
    let line = place.text("log");
    let line = line.replace(&format!("(events:{code_line:03})"), "(events:001)");
    ["lineno\": ", "events.rs:", "|events|"]
        .iter()
        .fold(line, |line, before| line.replace(&format!("{before}{code_line}"), &format!("{before}1")))
}

#[test]
fn what_is_kept_is_what_the_library_writes() {
    let kept: Json = serde_json::from_str(EXPECTED).unwrap();
    let python = match python_with_oslo_log(kept["versions"]["oslo.log"].as_str().unwrap()) {
        Ok(python) => python,
        Err(reason) => return skip("what_is_kept_is_what_the_library_writes", &reason),
    };
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/log");
    let cases = std::fs::File::open(here.join("cases.json")).unwrap();
    let output = Command::new(python).arg(here.join("expected.py")).stdin(cases).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let live: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(live["lines"], kept["lines"]);
}

/// A Python that has the library, which is installed where the compiler puts what it makes.
fn python_with_oslo_log(version: &str) -> Result<PathBuf, SkipReason> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("oslo-log-{version}"));
    let python = dir.join("bin/python");
    let is_there = |python: &Path| {
        let command = Command::new(python).args(["-c", "import oslo_log.log"]).stderr(Stdio::null()).status();
        command.is_ok_and(|status| status.success())
    };
    if is_there(&python) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
    let package = format!("oslo.log=={version}");
    run(Command::new(&python).args(["-m", "pip", "--quiet", "--disable-pip-version-check", "install", &package]))?;
    if is_there(&python) { Ok(python) } else { Err(SkipReason(format!("{package} is installed and does not load"))) }
}

fn run(command: &mut Command) -> Result<(), SkipReason> {
    let reason = |why: String| SkipReason(format!("oslo.log cannot be installed: {command:?}: {why}"));
    let output = Command::new(command.get_program()).args(command.get_args()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(reason(String::from_utf8_lossy(&output.stderr).trim().into())),
        Err(error) => Err(reason(error.to_string())),
    }
}
