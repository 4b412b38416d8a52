//! What people are told about what runs: where it is, and lines to paste.

use super::Running;

/// Where everything is.
pub(crate) fn services(running: &Running) -> String {
    let mut rows = vec![row("PART", "WHERE", "WHAT IT SERVES")];
    let store = running.store();
    let what = match store.is_embedded() {
        true => "etcd's API, from this process",
        false => "the registry",
    };
    rows.push(row("store", &store.place(), what));
    if let Some(address) = running.user() {
        let what =
            "example.UserService, catena.user.v1.Users, health, reflection, /readyz, /metrics";
        rows.push(row("user", &format!("grpc://{address}"), what));
    }
    if let Some(address) = running.gateway() {
        let what = "/ping, /user/{id}, /users, /v1/config/, /healthz, /readyz, /metrics";
        rows.push(row("gateway", &format!("http://{address}"), what));
    }
    table(&rows)
}

/// Lines that work when pasted: the gateway at a URL, the user service at an address, what is registered.
pub(crate) fn lines(gateway: &str, user: &str, endpoints: &str) -> [String; 5] {
    [
        format!("curl {gateway}/ping"),
        format!(
            "curl -X POST {gateway}/users -H 'content-type: application/json' -d '{{\"name\":\"Alice\",\"email\":\"alice@example.com\",\"age\":30}}'"
        ),
        format!("curl {gateway}/user/1"),
        format!("grpcurl -plaintext -d '{{\"user_id\":\"1\"}}' {user} example.UserService/GetUser"),
        format!("etcdctl --endpoints={endpoints} get --prefix /registry/v1/"),
    ]
}

fn row(part: &str, place: &str, what: &str) -> [String; 3] {
    [part, place, what].map(str::to_owned)
}

/// Straight columns, the last one as long as it is.
pub(crate) fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or(0)
    });
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_are_straight() {
        let rows = [row("A", "BB", "C"), row("AAA", "", "")];
        assert_eq!(table(&rows), "A    BB  C\nAAA\n");
    }
}
