//! Axum and tonic with nothing around the handler.

use std::{io, str::FromStr};

use anyhow::Result;
use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
};
use catena_api::example::{
    UserRequest, UserResponse,
    user_service_server::{UserService, UserServiceServer},
};
use serde::Serialize;
use sqlx::{
    ConnectOptions, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// As many as the user service has.
const CONNECTIONS: u32 = 10;

/// The service's own query.
const PICK: &str = "SELECT id, name, email, age FROM users WHERE id = $1";

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    name: String,
    age: Option<i32>,
}

#[derive(Serialize)]
struct Shown {
    id: i64,
    name: String,
    age: i32,
}

#[derive(Serialize)]
struct Pong {
    message: &'static str,
}

/// The users of a database.
struct Users(SqlitePool);

async fn pick(pool: &SqlitePool, id: i64) -> sqlx::Result<Option<Row>> {
    sqlx::query_as(PICK).bind(id).fetch_optional(pool).await
}

async fn user(
    State(pool): State<SqlitePool>,
    Path(id): Path<i64>,
) -> Result<Json<Shown>, StatusCode> {
    let found = pick(&pool, id)
        .await
        .map_err(|_error| StatusCode::INTERNAL_SERVER_ERROR)?;
    let row = found.ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(Shown {
        id: row.id,
        name: row.name,
        age: row.age.unwrap_or_default(),
    }))
}

#[tonic::async_trait]
impl UserService for Users {
    async fn get_user(
        &self,
        request: Request<UserRequest>,
    ) -> Result<Response<UserResponse>, Status> {
        let id = request.into_inner().user_id.parse();
        let id = id.map_err(|_error| Status::invalid_argument("not an id"))?;
        let found = pick(&self.0, id)
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        let row = found.ok_or_else(|| Status::not_found("no such user"))?;
        Ok(Response::new(UserResponse {
            name: row.name,
            age: row.age.unwrap_or_default(),
            id: row.id,
        }))
    }
}

/// Serves both until one of them ends.
pub(super) async fn serve(
    rest: TcpListener,
    grpc: TcpListener,
    database: &str,
    listening: impl FnOnce() -> io::Result<()>,
) -> Result<()> {
    let options = SqliteConnectOptions::from_str(database)?
        .journal_mode(SqliteJournalMode::Wal)
        .disable_statement_logging();
    let pool = SqlitePoolOptions::new()
        .max_connections(CONNECTIONS)
        .connect_with(options)
        .await?;
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<UserServiceServer<Users>>().await;
    let router = Router::new()
        .route("/ping", get(async || Json(Pong { message: "pong" })))
        .route("/user/{id}", get(user))
        .with_state(pool.clone());
    let services = Server::builder()
        .tcp_nodelay(true)
        .add_service(UserServiceServer::new(Users(pool)))
        .add_service(health)
        .serve_with_incoming(TcpListenerStream::new(grpc));
    listening()?;
    tokio::select! {
        ended = axum::serve(rest, router) => Ok(ended?),
        ended = services => Ok(ended?),
    }
}
