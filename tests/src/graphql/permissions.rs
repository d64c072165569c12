//! Customers, staff and strangers at one server, over every transport. Field by field, read-api tests it.

use access::{Role, Scopes};
use reqwest::Client;
use serde_json::{Value, json};
use uuid::Uuid;

use super::sockets::{Socket, bearer};
use super::{Events, list_and_receive, order};
use crate::support::{Database, Server, client, status_and_json, token};

#[tokio::test]
async fn everybody_sees_what_is_theirs() {
    let database = Database::create().await;
    let mut server = Server::start_by_hand(&database).await;
    list_and_receive(&server, "TEA").await;
    let [ada, bob] = [Uuid::now_v7(), Uuid::now_v7()];
    let mut placed = Vec::new();
    for customer in [Some(ada), Some(bob), None] {
        let id = Uuid::now_v7();
        let mut cart = order("TEA");
        if let Some(customer) = customer {
            cart["customer"] = json!(customer);
        }
        let position = server.done(&format!("/v1/order/{id}/place"), cart).await["position"].clone();
        placed.push((id, position));
    }
    let (own, others) = (placed[0].0, placed[1].0);
    let last = placed[2].1.as_str().unwrap().to_owned();

    let all = "query ($own: UUID!, $others: UUID!) {
        orders { totalCount nodes { id nodeId } }
        own: order(id: $own) { id customer { id } }
        others: order(id: $others) { id }
        was: orderAsOf(id: $own, at: { revision: 0 }) { id status }
        othersWas: orderAsOf(id: $others, at: { revision: 0 }) { id status }
    }";
    let variables = json!({ "own": own, "others": others });
    // The shop sees all of it.
    let shop = server.query(all, variables.clone(), Some(&last)).await;
    assert_eq!((&shop["orders"]["totalCount"], &shop["others"]["id"]), (&json!(3), &json!(others)));
    assert_eq!((&shop["othersWas"]["status"], &shop["was"]["status"]), (&json!("PLACED"), &json!("PLACED")));
    let foreign = shop["orders"]["nodes"].as_array().unwrap().iter().find(|node| node["id"] == json!(others)).unwrap();
    let foreign = foreign["nodeId"].clone();

    // A customer what is its own, over HTTP and over a socket.
    let of_ada = token("ada", Role::Customer.scopes(), Some(ada));
    server.client = client(&of_ada);
    let hers = server.query(all, variables, Some(&last)).await;
    assert_eq!((&hers["orders"]["totalCount"], &hers["orders"]["nodes"][0]["id"]), (&json!(1), &json!(own)));
    assert_eq!((&hers["own"]["id"], &hers["was"]["id"]), (&json!(own), &json!(own)));
    assert_eq!((&hers["others"], &hers["othersWas"]), (&Value::Null, &Value::Null));
    let node = server.query("query ($id: ID!) { node(id: $id) { nodeId } }", json!({ "id": foreign }), None).await;
    assert_eq!(node["node"], Value::Null);
    let mut socket = Socket::connect(&server, None).await.unwrap_or_else(|status| panic!("{status}"));
    socket.introduce(bearer(&of_ada)).await.unwrap();
    let listed = socket.ask("{ orders { totalCount nodes { id } } }").await.unwrap();
    assert_eq!(listed["data"]["orders"], json!({ "totalCount": 1, "nodes": [{ "id": own }] }));
    let mut events = Events::follow(&server, "subscription { ordersChanged { orders { id } left } }", json!({})).await;
    let first = events.next().await.unwrap()["ordersChanged"].clone();
    assert_eq!(first, json!({ "orders": [{ "id": own }], "left": [] }));

    // What happens to others is not told; the next message is of her own order.
    server.client = client(&token("staff", Scopes::ALL, None));
    server.done(&format!("/v1/order/{others}/reject"), json!({ "reason": "sold out" })).await;
    server.done(&format!("/v1/order/{own}/reject"), json!({ "reason": "sold out" })).await;
    let next = events.next().await.unwrap()["ordersChanged"].clone();
    assert_eq!(next, json!({ "orders": [{ "id": own }], "left": [] }));

    // Somebody of the shop what its scopes say, and a stranger the catalogue.
    let sales = json!({ "query": "{ salesSummary(currency: \"GBP\") { orders } }" });
    let orders = json!({ "query": "{ orders { totalCount } }" });
    let catalogue = json!({ "query": "{ products { nodes { sku price { amount } inStock } } }" });
    let stock = json!({ "query": "{ products { nodes { sku available } } }" });
    let stranger = Client::new();
    let [ada, warehouse] = [of_ada, token("kim", [access::Scope::StockRead].into_iter().collect(), None)];
    let [ada, warehouse] = [ada, warehouse].map(|token| client(&token));
    for (who, asked, status, scope) in [
        (&stranger, &catalogue, 200, Value::Null),
        (&stranger, &stock, 401, Value::Null),
        (&stranger, &orders, 401, Value::Null),
        (&ada, &catalogue, 200, Value::Null),
        (&ada, &stock, 403, json!("stock:read")),
        (&ada, &sales, 403, json!("reports:read")),
        (&warehouse, &stock, 200, Value::Null),
        (&warehouse, &orders, 403, json!("orders:read")),
    ] {
        let answered = who.post(format!("{}/graphql", server.url)).json(asked).send().await.unwrap();
        assert_eq!(answered.headers()["vary"], "accept, authorization");
        assert_eq!(answered.headers().contains_key("www-authenticate"), status != 200, "{asked}");
        let (came, answer) = status_and_json(answered).await;
        assert_eq!((came, &answer["errors"][0]["extensions"]["scope"]), (status, &scope), "{asked}: {answer}");
    }
}
