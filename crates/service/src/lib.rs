//! How a role lives: component, config, telemetry, HTTP conventions, outgoing client, shutdown.
