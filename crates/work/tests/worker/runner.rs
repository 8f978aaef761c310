//! Runs tests by name, as the usual harness does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

/// A name, and what it proves.
pub(crate) type Test = (&'static str, fn());

/// Names a function by itself: `tests![a_name, another_name]`.
macro_rules! tests {
    ($($name:ident),+ $(,)?) => { &[$((stringify!($name), $name as fn())),+] };
}
pub(crate) use tests;

/// Tests at the same time; most of them wait most of the time.
const THREADS: usize = 4;

/// Runs those that the arguments name. Options are those of the usual harness; of them, `--exact`, `--skip` and
/// `--list` count.
pub(crate) fn run(tests: &[Test]) -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (mut names, mut skipped, mut is_exact) = (Vec::new(), Vec::new(), false);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--exact" => is_exact = true,
            "--skip" => skipped.extend(args.next()),
            "--list" => {
                for (name, _) in tests {
                    println!("{name}: test");
                }
                return ExitCode::SUCCESS;
            }
            "--test-threads" | "--format" | "--color" | "-Z" => drop(args.next()),
            option if option.starts_with('-') => {}
            name => names.push(name.to_owned()),
        }
    }
    let fits = |name: &str, wanted: &String| if is_exact { name == wanted } else { name.contains(wanted.as_str()) };
    let chosen: Vec<_> = tests
        .iter()
        .filter(|(name, _)| names.is_empty() || names.iter().any(|wanted| fits(name, wanted)))
        .filter(|(name, _)| !skipped.iter().any(|skipped| fits(name, skipped)))
        .collect();
    println!("\nrunning {} tests", chosen.len());
    let start = Instant::now();
    let queue = Mutex::new(chosen.iter());
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let Some((name, test)) = queue.lock().unwrap().next() else { break };
                    let has_passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
                    println!("test {name} ... {}", if has_passed { "ok" } else { "FAILED" });
                    if !has_passed {
                        failed.lock().unwrap().push(*name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    for name in &failed {
        println!("    {name}");
    }
    println!(
        "\ntest result: {}. {} passed; {} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        if failed.is_empty() { "ok" } else { "FAILED" },
        chosen.len() - failed.len(),
        failed.len(),
        tests.len() - chosen.len(),
        start.elapsed().as_secs_f64()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
