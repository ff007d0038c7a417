//! `tessera rides`: what rides need before they are served.

use std::path::PathBuf;

use clap::Subcommand;
use tessera_rides::network::import;

use crate::up::Failure;

/// The verbs.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Prepare a road network from an OpenStreetMap extract
    Import {
        /// The extract, in PBF form
        #[arg(value_name = "CITY.OSM.PBF")]
        extract: PathBuf,
        /// Where the network goes; in the data folder of `up` it is found without a setting
        #[arg(long, value_name = "FILE", default_value = "data/city.roads")]
        out: PathBuf,
    },
}

impl Command {
    /// Does it and tells what was done.
    pub fn run(self) -> Result<String, Failure> {
        let Self::Import { extract, out } = self;
        let usage = |error: &dyn std::error::Error| Failure::Usage(error.to_string());
        if !extract.is_file() {
            let text = format!("there is no file `{}`; give an OpenStreetMap extract in PBF form", extract.display());
            return Err(Failure::Usage(text));
        }
        let imported = import(&extract).map_err(|error| usage(&error))?;
        if let Some(folder) = out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            let refused =
                |error| format!("the folder `{}` cannot be made: {error}; give another `--out`", folder.display());
            std::fs::create_dir_all(folder).map_err(|error| Failure::Usage(refused(error)))?;
        }
        let network = &imported.network;
        network.save(&out).map_err(|error| usage(&error))?;
        let left_out = match imported.unreachable {
            0 => String::new(),
            count => format!("; {count} that one cannot come back from are left out"),
        };
        Ok(format!(
            "{}: {} junctions, {} stretches of road from {} ways{left_out}\n{}\n",
            out.display(),
            network.junctions(),
            network.stretches(),
            imported.ways,
            network.attribution()
        ))
    }
}
