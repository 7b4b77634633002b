//! The API's description of itself.
use crate::{app::Shared, schema};
use axum::{Json, extract::State};
use chord::settings::KEY_BYTES_MAX;
use std::sync::Arc;
use utoipa::{
    IntoParams, OpenApi, PartialSchema as _,
    openapi::{
        self, ContentBuilder, ObjectBuilder, OneOfBuilder, Ref, RefOr, Required, Response, ResponseBuilder,
        path::{Parameter, ParameterBuilder, ParameterIn, ParameterStyle},
        schema::{AdditionalProperties, Schema, Type},
    },
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "chord-gateway",
        description = "A Chord ring, read-only. Errors are application/problem+json (RFC 9457). \
            `GET ws` upgrades to a WebSocket that sends a snapshot and then numbered deltas."
    ),
    paths(
        super::ring,
        super::nodes,
        super::node,
        super::asked::fingers,
        super::asked::lookup,
        super::stats,
        super::events
    ),
    components(schemas(schema::Problem, schema::AnyId, schema::Count))
)]
struct Api;

/// 1 to 1024 bytes; a space is a `+` that was not escaped.
const BASE64: &str = concat!(
    "^([0-9A-Za-z+/_ -]{4}){1,341}$|",
    "^([0-9A-Za-z+/_ -]{4}){0,341}[0-9A-Za-z+/_ -][AQgw](==)?$|",
    "^([0-9A-Za-z+/_ -]{4}){0,340}[0-9A-Za-z+/_ -]{2}[AEIMQUYcgkosw048]=?$"
);

/// What a lookup is for: exactly one of three parameters, which OpenAPI says as one of three objects whose properties
/// are the parameters.
pub struct Target;

impl IntoParams for Target {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let key = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(KEY_BYTES_MAX));
        let bytes = ObjectBuilder::new().schema_type(Type::String).pattern(Some(BASE64));
        let only = |name: &str, schema: RefOr<Schema>| {
            let object = ObjectBuilder::new().property(name, schema).required(name);
            object.additional_properties(Some(AdditionalProperties::FreeForm(false)))
        };
        let target = OneOfBuilder::new()
            .item(only("key", key.description(Some("1 to 1024 bytes of UTF-8")).into()))
            .item(only(
                "keyBase64",
                bytes.description(Some("any 1 to 1024 bytes as base64, standard or URL-safe")).into(),
            ))
            .item(only("id", schema::AnyId::schema()));
        let parameter = ParameterBuilder::new().name("target").parameter_in(ParameterIn::Query);
        let parameter = parameter.style(Some(ParameterStyle::Form)).explode(Some(true)).required(Required::True);
        vec![parameter.description(Some("exactly one of these")).schema(Some(target)).build()]
    }
}

/// The description, for a gateway below `base_path`.
pub fn describe(base_path: &str) -> openapi::OpenApi {
    let mut api = Api::openapi();
    api.servers = Some(vec![openapi::Server::new(format!("{base_path}api/v1"))]);
    for (path, item) in &mut api.paths.paths {
        let Some(get) = &mut item.get else { continue };
        let responses = &mut get.responses.responses;
        let mut problem = |status: &str, description: &str| {
            responses.insert(status.to_owned(), RefOr::T(problem(description)));
        };
        problem("400", "a parameter is wrong or unknown");
        problem("429", "too many requests of this address: wait as long as Retry-After says");
        problem("503", "too much is asked at once, or no member is heard");
        problem("504", "no answer in time");
        if path.contains("{id}") || path == "/lookup" {
            problem("404", "no member has this id");
        }
        if path.ends_with("/fingers") || path == "/lookup" {
            problem("502", "the member does not answer");
        }
    }
    api
}

fn problem(description: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(description).content("application/problem+json", content).build()
}

/// `GET /api/v1/openapi.json`.
pub async fn document(State(shared): State<Arc<Shared>>) -> Json<openapi::OpenApi> {
    Json(describe(&shared.base_path))
}
