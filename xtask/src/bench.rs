//! `cargo xtask bench NAME`: a benchmark of its own folder, `bench/NAME/run.sh`, which builds what it measures.

use crate::step;

/// Runs one benchmark; `arguments` go to its script.
pub(crate) fn run(name: &str, arguments: &[&str]) -> Result<(), String> {
    let script = step::root().join("bench").join(name).join("run.sh");
    if !script.is_file() {
        return Err(format!("there is no benchmark `{name}`; there are: [{}]", names().join(", ")));
    }
    step::run(step::command("bash").arg(script).args(arguments))
}

fn names() -> Vec<String> {
    let folders = std::fs::read_dir(step::root().join("bench")).into_iter().flatten().flatten();
    let whole = folders.filter(|folder| folder.path().join("run.sh").is_file());
    let mut names: Vec<String> = whole.map(|folder| folder.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
