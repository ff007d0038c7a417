//! What the API says of itself: `GET /` for people, `GET /openapi.json` for programs.

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

use super::DemoApi;
use super::asked::{DEFAULT_PAGE, MAX_PAGE};
use super::lifecycle::Status;
use super::rows::{Country, Customer, Event, Item, Order, Payment, Product, Refund, Review, Shipment};

/// Method, path and what it is, of every route.
pub(super) const ENDPOINTS: [(&str, &str, &str); 25] = [
    ("GET", "/customers", "customers, by page number (`page`, `per_page`)"),
    ("GET", "/customers/{id}", "one customer"),
    ("GET", "/orders", "orders, by page number, filters `updated_since` (>=) and `updated_until` (<)"),
    ("GET", "/orders/{id}", "one order"),
    ("GET", "/orders/{id}/items", "the items of an order, an array"),
    ("POST", "/orders/search", "orders by status, deletion and time; page number in the JSON body"),
    ("GET", "/products", "products, by `offset` and `limit`"),
    ("GET", "/products/{id}", "one product"),
    ("GET", "/payments", "payments, by `cursor` (`next_cursor` in the body)"),
    ("GET", "/refunds", "refunds, by the URL in `next`"),
    ("GET", "/shipments", "shipments, by the `Link` header"),
    ("GET", "/reviews", "reviews, by `pageToken` (`nextPageToken` in the body)"),
    ("GET", "/events", "what happened to orders, JSON Lines, filter `since`"),
    ("GET", "/stock.csv", "stock per product and warehouse, CSV"),
    ("GET", "/stock.csv.gz", "the same as a gzip file"),
    ("GET", "/countries", "countries, one array"),
    ("GET", "/", "this list"),
    ("GET", "/openapi.json", "the API as OpenAPI 3.1"),
    ("POST", "/oauth/token", "an access token for 60 s (client credentials, refresh token)"),
    ("POST", "/session", "a session cookie for 5 min"),
    ("GET", "/_truth", "exact row counts and checksums"),
    ("GET", "/_faults", "the faults in force"),
    ("POST", "/_faults", "set them; the body replaces all"),
    ("GET", "/_stats", "requests per path and status, faults, most requests at once"),
    ("DELETE", "/_stats", "count from 0 again"),
];

/// `GET /`.
pub(super) async fn index(State(api): State<DemoApi>) -> Json<Value> {
    let endpoints: Vec<Value> = ENDPOINTS
        .iter()
        .map(|(method, path, about)| json!({ "method": method, "path": path, "about": about }))
        .collect();
    Json(json!({
        "name": "Tessera demo shop",
        "openapi": "/openapi.json",
        "auth": {
            "required": api.0.options.auth,
            "bearer": "demo-token",
            "api_key": "demo-key, as X-Api-Key header, api_key query parameter or api_key cookie",
            "basic": "demo:demo-password",
            "oauth2": "POST /oauth/token with client demo-client:demo-secret; tokens live 60 s",
            "session": "POST /session with username demo and password demo-password",
            "jwt": "HS256 with the key demo-jwt-key-demo-jwt-key-demo-jwt-key and an exp claim",
        },
        "endpoints": endpoints,
    }))
}

fn parameter(name: &str, schema: Value, about: &str) -> Value {
    json!({ "name": name, "in": "query", "required": false, "schema": schema, "description": about })
}

fn size(name: &str) -> Value {
    let schema = json!({ "type": "integer", "minimum": 1, "default": DEFAULT_PAGE });
    parameter(name, schema, &format!("rows per page; more than {MAX_PAGE} gives {MAX_PAGE}"))
}

fn time(name: &str, about: &str) -> Value {
    parameter(name, json!({ "type": "string", "format": "date-time" }), about)
}

fn opaque(name: &str) -> Value {
    parameter(name, json!({ "type": "string" }), "from the page before; none for the first page")
}

fn page_number() -> Value {
    parameter("page", json!({ "type": "integer", "minimum": 1, "default": 1 }), "page number, from 1")
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn array(name: &str) -> Value {
    json!({ "type": "array", "items": reference(name) })
}

fn object(fields: &[(&str, Value)], optional: &[&str]) -> Value {
    let required: Vec<&str> = fields.iter().map(|(name, _)| *name).filter(|name| !optional.contains(name)).collect();
    let fields: Map<String, Value> = fields.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({ "type": "object", "properties": fields, "required": required })
}

/// An operation whose answer is one kind of content.
struct Operation {
    id: &'static str,
    parameters: Vec<Value>,
    content: (&'static str, Value),
    headers: Value,
    body: Option<(&'static str, Value)>,
    open: bool,
}

impl Operation {
    fn json(id: &'static str, parameters: Vec<Value>, schema: Value) -> Self {
        let content = ("application/json", schema);
        Self { id, parameters, content, headers: json!({}), body: None, open: false }
    }

    fn content(self, kind: &'static str) -> Self {
        Self { content: (kind, self.content.1), ..self }
    }

    fn header(self, name: &str, kind: &str, about: &str) -> Self {
        Self { headers: json!({ name: { "schema": { "type": kind }, "description": about } }), ..self }
    }

    fn body(self, kind: &'static str, schema: Value) -> Self {
        Self { body: Some((kind, schema)), ..self }
    }

    /// Answers without credentials.
    fn open(self) -> Self {
        Self { open: true, ..self }
    }

    fn shown(self, path: &str, about: &str) -> Value {
        let problem = |status: &str| {
            let schema = reference("Problem");
            (
                status.to_owned(),
                json!({ "description": "a problem", "content": { "application/problem+json": { "schema": schema } } }),
            )
        };
        let (kind, schema) = self.content;
        let ok = json!({ "description": about, "headers": self.headers, "content": { kind: { "schema": schema } } });
        let mut responses = Map::from_iter([("200".to_owned(), ok), problem("400")]);
        responses.extend(path.contains("{id}").then(|| problem("404")));
        if !self.open {
            responses.extend([problem("401"), problem("429")]);
        }
        let mut parameters = self.parameters;
        if path.contains("{id}") {
            let id = json!({ "type": "integer", "minimum": 1 });
            parameters.insert(0, json!({ "name": "id", "in": "path", "required": true, "schema": id }));
        }
        let mut operation = json!({
            "operationId": self.id,
            "summary": about,
            "parameters": parameters,
            "responses": responses,
        });
        if let Some((kind, schema)) = self.body {
            operation["requestBody"] = json!({ "required": true, "content": { kind: { "schema": schema } } });
        }
        if self.open {
            operation["security"] = json!([]);
        }
        operation
    }
}

/// The operation behind a route of [`ENDPOINTS`].
fn operation(method: &str, path: &str) -> Operation {
    let as_of = || time("as_of", "show the shop as it was at this time, so that pages hold still");
    let created_since = || time("created_since", "only what was created at or after this time");
    let integer = || json!({ "type": "integer", "minimum": 0 });
    let page = |name| {
        let fields = [
            ("data", array(name)),
            ("page", integer()),
            ("per_page", integer()),
            ("total", integer()),
            ("total_pages", integer()),
        ];
        object(&fields, &["total", "total_pages"])
    };
    let nullable = || json!({ "type": ["string", "null"] });
    let anything = || json!({ "type": "object" });
    match (method, path) {
        (_, "/customers") => {
            Operation::json("listCustomers", vec![page_number(), size("per_page"), as_of()], page("Customer"))
        }
        (_, "/customers/{id}") => Operation::json("getCustomer", vec![as_of()], reference("Customer")),
        (_, "/orders") => {
            let since = time("updated_since", "only orders updated at or after this time");
            let until = time("updated_until", "only orders updated before this time");
            Operation::json("listOrders", vec![page_number(), size("per_page"), since, until, as_of()], page("Order"))
        }
        (_, "/orders/{id}") => Operation::json("getOrder", vec![as_of()], reference("Order")),
        (_, "/orders/{id}/items") => Operation::json("listOrderItems", vec![as_of()], array("Item")),
        (_, "/orders/search") => {
            let fields =
                [("results", array("Order")), ("page", integer()), ("page_size", integer()), ("total", integer())];
            Operation::json("searchOrders", vec![], object(&fields, &["total"])).body("application/json", search_body())
        }
        (_, "/products") => {
            let offset = parameter("offset", json!({ "type": "integer", "minimum": 0, "default": 0 }), "rows to skip");
            let fields = [("items", array("Product")), ("count", integer())];
            Operation::json("listProducts", vec![offset, size("limit"), as_of()], object(&fields, &["count"])).header(
                "X-Total-Count",
                "integer",
                "the number of all products",
            )
        }
        (_, "/products/{id}") => Operation::json("getProduct", vec![], reference("Product")),
        (_, "/payments") => {
            let fields = [("data", array("Payment")), ("next_cursor", nullable())];
            let parameters = vec![opaque("cursor"), size("limit"), created_since(), as_of()];
            Operation::json("listPayments", parameters, object(&fields, &[]))
        }
        (_, "/refunds") => {
            let next = json!({ "type": ["string", "null"], "format": "uri-reference" });
            let parameters = vec![opaque("cursor"), size("limit"), created_since(), as_of()];
            Operation::json("listRefunds", parameters, object(&[("results", array("Refund")), ("next", next)], &[]))
        }
        (_, "/shipments") => {
            let parameters = vec![opaque("cursor"), size("limit"), created_since(), as_of()];
            Operation::json("listShipments", parameters, array("Shipment")).header(
                "Link",
                "string",
                "the first and the next page (RFC 8288)",
            )
        }
        (_, "/reviews") => {
            let token = json!({ "type": "string" });
            let parameters = vec![opaque("pageToken"), size("pageSize"), created_since(), as_of()];
            let fields = [("reviews", array("Review")), ("nextPageToken", token)];
            Operation::json("listReviews", parameters, object(&fields, &["nextPageToken"]))
        }
        (_, "/events") => {
            let limit = parameter("limit", json!({ "type": "integer", "minimum": 1 }), "no more than so many lines");
            let (since, until) = (time("since", "from this time on"), time("until", "before this time"));
            Operation::json("listEvents", vec![since, until, limit, as_of()], reference("Event"))
                .content("application/x-ndjson")
        }
        (_, "/stock.csv") => {
            Operation::json("stockCsv", vec![as_of()], json!({ "type": "string" })).content("text/csv")
        }
        (_, "/stock.csv.gz") => {
            Operation::json("stockFile", vec![as_of()], json!({ "type": "string", "format": "binary" }))
                .content("application/gzip")
        }
        (_, "/countries") => Operation::json("listCountries", vec![], array("Country")),
        (_, "/oauth/token") => {
            let text = || json!({ "type": "string" });
            let sent = [
                ("grant_type", json!({ "type": "string", "enum": ["client_credentials", "refresh_token"] })),
                ("client_id", text()),
                ("client_secret", text()),
                ("refresh_token", text()),
            ];
            let fields = [
                ("access_token", text()),
                ("token_type", text()),
                ("expires_in", integer()),
                ("refresh_token", text()),
            ];
            let optional = ["client_id", "client_secret", "refresh_token"];
            Operation::json("createToken", vec![], object(&fields, &[]))
                .body("application/x-www-form-urlencoded", object(&sent, &optional))
                .open()
        }
        (_, "/session") => {
            let text = || json!({ "type": "string" });
            let fields = [("user", text()), ("expires_at", json!({ "type": "string", "format": "date-time" }))];
            Operation::json("createSession", vec![], object(&fields, &[]))
                .body("application/json", object(&[("username", text()), ("password", text())], &[]))
                .header("Set-Cookie", "string", "the session")
                .open()
        }
        (_, "/_truth") => {
            let resources = parameter("resources", json!({ "type": "string" }), "names, separated by commas");
            let checksums =
                parameter("checksums", json!({ "type": "boolean", "default": true }), "false: counts alone");
            let since = time("updated_since", "count the visible orders from here on");
            let until = time("updated_until", "count them before this time");
            Operation::json("truth", vec![resources, checksums, since, until, as_of()], anything()).open()
        }
        ("POST", "/_faults") => {
            Operation::json("setFaults", vec![], anything()).body("application/json", anything()).open()
        }
        (_, "/_faults") => Operation::json("showFaults", vec![], anything()).open(),
        ("DELETE", _) => Operation::json("resetStats", vec![], anything()).open(),
        (_, "/_stats") => Operation::json("showStats", vec![], anything()).open(),
        (_, "/openapi.json") => Operation::json("openapi", vec![], anything()).open(),
        _ => Operation::json("index", vec![], anything()).open(),
    }
}

fn search_body() -> Value {
    let statuses = Status::ALL.map(Status::name);
    let one = json!({ "type": "string", "enum": statuses });
    let moment = || json!({ "type": "string", "format": "date-time" });
    let filters = [
        ("status", json!({ "oneOf": [one, { "type": "array", "items": one }] })),
        ("deleted", json!({ "type": "boolean" })),
        ("updated_since", moment()),
        ("updated_until", moment()),
        ("as_of", moment()),
    ];
    let filters = object(&filters, &["status", "deleted", "updated_since", "updated_until", "as_of"]);
    let fields = [
        ("page", json!({ "type": "integer", "minimum": 1, "default": 1 })),
        ("page_size", json!({ "type": "integer", "minimum": 1, "default": DEFAULT_PAGE })),
        ("filters", filters),
    ];
    object(&fields, &["page", "page_size", "filters"])
}

/// `GET /openapi.json`.
pub(super) async fn document() -> Json<Value> {
    let mut paths = Map::new();
    for (method, path, about) in ENDPOINTS {
        let operations = paths.entry(path).or_insert_with(|| json!({}));
        operations[method.to_ascii_lowercase()] = operation(method, path).shown(path, about);
    }
    Json(json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tessera demo shop",
            "version": "1.0.0",
            "description": "A shop that does not exist. Times are UTC and have whole seconds; amounts are in minor units.",
        },
        "servers": [{ "url": "/" }],
        "security": [{ "bearer": [] }, { "apiKey": [] }, { "basic": [] }, { "oauth2": [] }, { "session": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "basic": { "type": "http", "scheme": "basic" },
                "apiKey": { "type": "apiKey", "in": "header", "name": "X-Api-Key" },
                "session": { "type": "apiKey", "in": "cookie", "name": "session" },
                "oauth2": {
                    "type": "oauth2",
                    "flows": { "clientCredentials": { "tokenUrl": "/oauth/token", "refreshUrl": "/oauth/token", "scopes": {} } },
                },
            },
        },
    }))
}

/// The schemas of all rows, from their types.
fn schemas() -> Map<String, Value> {
    let mut found = Vec::new();
    fn add<T: ToSchema + PartialSchema>(found: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>) {
        found.push((T::name().into_owned(), T::schema()));
        T::schemas(found);
    }
    add::<Customer>(&mut found);
    add::<Order>(&mut found);
    add::<Item>(&mut found);
    add::<Product>(&mut found);
    add::<Payment>(&mut found);
    add::<Refund>(&mut found);
    add::<Shipment>(&mut found);
    add::<Review>(&mut found);
    add::<Event>(&mut found);
    add::<Country>(&mut found);
    let shown = |(name, schema)| Some((name, serde_json::to_value(schema).ok()?));
    let mut schemas: Map<String, Value> = found.into_iter().filter_map(shown).collect();
    let text = || json!({ "type": "string" });
    let fields = [
        ("type", text()),
        ("title", text()),
        ("status", json!({ "type": "integer" })),
        ("code", text()),
        ("detail", text()),
    ];
    schemas.insert("Problem".to_owned(), object(&fields, &[]));
    schemas
}
