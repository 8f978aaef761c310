//! The description of the interface: `OpenAPI` 3.1, made from the routes, kept as `openapi.json` beside the manifest.

use std::sync::OnceLock;

use axum::http::StatusCode;
use utoipa::openapi::link::LinkBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, License, OpenApi, OpenApiBuilder, Ref, RefOr, Response,
    ResponseBuilder, SecurityRequirement, tag::TagBuilder,
};
use utoipa::{PartialSchema as _, ToSchema};

use crate::bodies::{EventBody, ProgressEventBody};
use crate::problem::{Kind, ProblemBody};
use crate::routes;

const DESCRIPTION: &str = "Jobs that copy, migrate and verify file trees. On the unix socket no token is needed. Failures \
                           are problem details (RFC 9457); `docs/api.md` says what each type means.";

const BEARER: &str = "token";

/// What routes are added to.
pub(crate) fn frame() -> OpenApi {
    let mut license = License::new("Apache-2.0");
    license.identifier = Some("Apache-2.0".into());
    let info = InfoBuilder::new()
        .title("manila-data")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(license));
    let tags = [
        ("jobs", "Make, find, look at, steer and remove jobs"),
        ("reports", "What passes left behind"),
        ("schedules", "Jobs that are made again and again"),
        ("events", "What happens, as it happens"),
        ("service", "The service itself"),
    ];
    // Named in texts alone: the data of events.
    let mut schemas = Vec::new();
    for add in [EventBody::schemas, ProgressEventBody::schemas, ProblemBody::schemas] {
        add(&mut schemas);
    }
    schemas.extend([
        (schema_name::<EventBody>(), EventBody::schema()),
        (schema_name::<ProgressEventBody>(), ProgressEventBody::schema()),
        (schema_name::<ProblemBody>(), ProblemBody::schema()),
    ]);
    let components = ComponentsBuilder::new()
        .security_scheme(BEARER, SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)))
        .schemas_from_iter(schemas);
    OpenApiBuilder::new()
        .info(info)
        .tags(Some(tags.map(|(name, text)| TagBuilder::new().name(name).description(Some(text)).build())))
        .security(Some([SecurityRequirement::new(BEARER, Vec::<String>::new()), SecurityRequirement::default()]))
        .components(Some(components.build()))
        .build()
}

fn schema_name<T: ToSchema>() -> String {
    T::name().into_owned()
}

/// Adds what follows from the shape of an operation: what may go wrong, and which ones a new job leads to.
pub(crate) fn completed(mut description: OpenApi) -> OpenApi {
    let mut of_jobs = Vec::new();
    for (path, item) in &mut description.paths.paths {
        let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            add_problems(path, operation);
            of_jobs.extend(operation.operation_id.clone().filter(|_| path.contains("{id}")));
        }
    }
    for maker in ["/v1/jobs", "/v1/jobs/{id}/retry-failed"] {
        let made = description.paths.paths.get_mut(maker).and_then(|item| item.post.as_mut());
        if let Some(RefOr::T(made)) = made.and_then(|operation| operation.responses.responses.get_mut("201")) {
            let link = |id: &String| LinkBuilder::new().operation_id(id).parameter("id", "$response.body#/id").build();
            made.links = of_jobs.iter().map(|id| (id.clone(), RefOr::T(link(id)))).collect();
        }
    }
    description
}

fn add_problems(path: &str, operation: &mut Operation) {
    let mut kinds = vec![Kind::TooManyRequests, Kind::Internal, Kind::StoreUnavailable];
    let is_public = operation.security.is_some();
    if !is_public {
        kinds.push(Kind::Unauthorized);
    }
    if operation.parameters.as_ref().is_some_and(|parameters| !parameters.is_empty()) {
        kinds.push(Kind::BadQuery);
    }
    if path.contains("{id}") {
        kinds.push(Kind::NoSuchJob);
    }
    if operation.request_body.is_some() {
        kinds.extend([Kind::BadJson, Kind::BodyTimeout, Kind::BodyTooLarge, Kind::UnsupportedMediaType, Kind::BadSpec]);
    }
    let is_change = !operation.responses.responses.contains_key("200") || operation.request_body.is_some();
    let is_action = ["/cancel", "/pause", "/resume", "/cutover", "/retry-failed"].iter().any(|end| path.ends_with(end));
    if is_change || is_action {
        kinds.push(Kind::Forbidden);
        if path.contains("{id}") {
            kinds.push(Kind::NotNow);
        }
    }
    if path.ends_with("/retry-failed") {
        kinds.push(Kind::BadSpec);
    }
    if ["/entries", "/faults", "/manifest"].iter().any(|end| path.ends_with(end)) {
        kinds.push(Kind::NotAcceptable);
    }
    for kind in kinds {
        let (status, ..) = kind.words();
        operation.responses.responses.entry(status.as_str().into()).or_insert_with(|| RefOr::T(problem(status)));
    }
}

fn problem(status: StatusCode) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema_name::<ProblemBody>()))).build();
    ResponseBuilder::new()
        .description(status.canonical_reason().unwrap_or("A failure"))
        .content("application/problem+json", content)
        .build()
}

/// The description as text, the same as the file.
pub(crate) fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let (_, description) = routes::described();
        let mut text = serde_json::to_string_pretty(&description).expect("a description is plain text and numbers");
        text.push('\n');
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPDATE: &str = "UPDATE_OPENAPI";

    #[test]
    fn the_description_is_the_one_that_is_kept() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        if std::env::var_os(UPDATE).is_some() {
            std::fs::write(path, text()).unwrap();
        }
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap_or_default();
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        // The order of keys differs with the features that other crates ask of the JSON library.
        assert!(
            parse(&kept) == parse(text()),
            "the interface changed: see that no client breaks, then `{UPDATE}=1 cargo test -p web`"
        );
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let description: serde_json::Value = serde_json::from_str(text()).unwrap();
        let places: Vec<&str> =
            text().split("\"$ref\": \"#").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert!(places.len() > 100, "{}", places.len());
        for place in places {
            assert!(description.pointer(place).is_some(), "{place}");
        }
    }

    #[test]
    fn every_operation_says_what_may_go_wrong() {
        let (_, description) = routes::described();
        assert_eq!(description.info.license.as_ref().unwrap().name, "Apache-2.0");
        let (mut operations, mut ids) = (0, std::collections::BTreeSet::new());
        for (path, item) in &description.paths.paths {
            for operation in [&item.get, &item.post, &item.put, &item.delete].into_iter().flatten() {
                let statuses = &operation.responses.responses;
                assert!(["429", "500", "503"].iter().all(|status| statuses.contains_key(*status)), "{path}");
                assert!(ids.insert(operation.operation_id.clone()), "{path}: {:?}", operation.operation_id);
                operations += 1;
            }
        }
        assert!(operations >= 20, "{operations}");
    }
}
