//! How parts of a pipeline show in a panic or a log: by what they are, never by values that may be secrets.

use std::fmt::{Debug, Formatter, Result};

use super::{Auth, Load, PagerDuty, Pipeline, Resource, S3, Slack, Source, Webhook};

impl Debug for Pipeline {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Pipeline").field("name", &self.name).field("resources", &self.resources).finish_non_exhaustive()
    }
}

impl Debug for Source {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Source").field("auth", &self.auth).finish_non_exhaustive()
    }
}

impl Debug for Resource {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Resource").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Debug for Auth {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Bearer { .. } => "Bearer",
            Self::Basic { .. } => "Basic",
            Self::ApiKey { .. } => "ApiKey",
            Self::Oauth2 { .. } => "Oauth2",
            Self::Session { .. } => "Session",
            Self::Jwt { .. } => "Jwt",
        })
    }
}

impl Debug for S3 {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("S3").field("endpoint", &self.endpoint).field("region", &self.region).finish_non_exhaustive()
    }
}

impl Debug for Load {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let scheme = self.url.split(':').next();
        f.debug_struct("Load").field("scheme", &scheme).field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Debug for Slack {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("Slack")
    }
}

impl Debug for PagerDuty {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("PagerDuty")
    }
}

impl Debug for Webhook {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str("Webhook")
    }
}
