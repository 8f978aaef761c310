//! The routes: what each takes and answers. What may go wrong with each is added in [`crate::openapi`].

mod events;
mod jobs;
mod reports;
mod schedules;
mod service;

use axum::http::{Method, Uri};
use axum::{Router, middleware};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::guard;
use crate::openapi;
use crate::problem::{Kind, Problem};

/// Everything under its guards.
pub(crate) fn router(app: &App) -> Router {
    let (router, _) = described();
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        // The last one added is the first to see a request.
        .layer(middleware::from_fn_with_state(app.clone(), guard::identify))
        .layer(middleware::from_fn_with_state(app.clone(), guard::around))
        .with_state(app.clone())
}

/// The routes, and their description.
pub(crate) fn described() -> (Router<App>, OpenApi) {
    let (router, description) = OpenApiRouter::with_openapi(openapi::frame())
        .routes(routes!(jobs::create, jobs::list))
        .routes(routes!(jobs::show, jobs::remove))
        .routes(routes!(jobs::progress))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::pause))
        .routes(routes!(jobs::resume))
        .routes(routes!(jobs::cutover))
        .routes(routes!(jobs::retry_failed))
        .routes(routes!(jobs::set_limits))
        .routes(routes!(reports::summary))
        .routes(routes!(reports::entries))
        .routes(routes!(reports::faults))
        .routes(routes!(reports::manifest))
        .routes(routes!(schedules::list))
        .routes(routes!(events::of_job))
        .routes(routes!(events::of_all))
        .routes(routes!(service::description))
        .routes(routes!(service::version))
        .routes(routes!(service::health))
        .routes(routes!(service::ready))
        .routes(routes!(service::metrics))
        .split_for_parts();
    (router, openapi::completed(description))
}

async fn no_route(uri: Uri) -> Problem {
    Problem::new(Kind::NoSuchRoute, format!("`{}` is no path of this interface; see /v1/openapi.json", uri.path()))
}

async fn no_method(method: Method, uri: Uri) -> Problem {
    Problem::new(
        Kind::MethodNotAllowed,
        format!("`{}` does not know {method}; the header `Allow` lists what it does", uri.path()),
    )
}
