//! Processes: their lines, their end.

use std::process::Command;

use tessera_testkit::bin::Process;

#[test]
fn lines_and_the_exit_code_arrive() {
    let script = "trap 'echo bye; exit 7' TERM; echo one; echo two >&2; while :; do sleep 0.05; done";
    let process = Process::spawn(Command::new("sh").args(["-c", script]));
    assert_eq!(process.wait_for("on"), "one");
    assert_eq!(process.wait_for_stderr("tw"), "two");
    process.signal("TERM");
    let finished = process.wait();
    assert_eq!((finished.code(), finished.stdout.as_str()), (Some(7), "one\nbye\n"));
}
