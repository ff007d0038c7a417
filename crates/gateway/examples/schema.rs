//! x
fn main() {
    println!("{}", serde_json::to_string_pretty(&tessera_gateway::spec::json_schema()).unwrap());
}
