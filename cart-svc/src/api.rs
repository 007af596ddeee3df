//! Cart's HTTP routes.

use axum::Json;
use axum::extract::State;
use events::{ProductId, UserId, catalog, fact};
use jetstream::http::{Id, NoContent, Number, Owner, Routes, doc};
use jetstream::{Body, Emission, Fault, Problem, Shell};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{Full, MAX_PRODUCTS};
use crate::store::{load_cart, save};

// As much as one line of an order can have.
const MAX_QUANTITY: i64 = 10_000;
const TRIES: usize = 5;

type Quantity = Number<1, MAX_QUANTITY>;

pub(crate) fn routes() -> Routes {
    const ITEM: &str = "/carts/{user}/items/{product_id}";
    Routes::about("carts", "What users mean to buy")
        .get("/carts/{user}", show, "Show what is in a user's cart")
        .put(
            ITEM,
            set,
            doc("Put a quantity of a product in the cart").refuses(422, &["CART_FULL"]),
        )
        .delete(
            ITEM,
            remove,
            "Take a product out of the cart; one that is not in it is out already",
        )
        .with(Shell::clone)
}

#[derive(Serialize, ToSchema)]
struct Cart {
    #[schema(value_type = String, example = "alice")]
    user_id: UserId,
    items: Vec<CartItem>,
}

#[derive(Serialize, ToSchema)]
struct CartItem {
    #[schema(value_type = Uuid)]
    product_id: ProductId,
    quantity: i64,
}

async fn show(owner: Owner) -> Result<Json<Cart>, Problem> {
    let sql = "SELECT product_id, quantity FROM items WHERE {mine} ORDER BY product_id";
    let mut items = Vec::new();
    for row in owner.query(sql, vec![]).await? {
        items.push(CartItem {
            product_id: ProductId(row.try_get("", "product_id").map_err(Fault::from)?),
            quantity: row.try_get("", "quantity").map_err(Fault::from)?,
        });
    }
    let user_id = owner.user().clone();
    Ok(Json(Cart { user_id, items }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "quantity": 2 }))]
struct InCart {
    #[schema(inline)]
    quantity: Quantity,
}

async fn set(
    owner: Owner,
    State(shell): State<Shell>,
    Id(product): Id<ProductId>,
    Body(InCart { quantity }): Body<InCart>,
) -> Result<Json<Cart>, Problem> {
    Ok(Json(edit(&shell, &owner, product, quantity.get()).await?))
}

async fn remove(
    owner: Owner,
    State(shell): State<Shell>,
    Id(product): Id<ProductId>,
) -> Result<NoContent, Problem> {
    edit(&shell, &owner, product, 0).await?;
    Ok(NoContent)
}

/// Sets a quantity, and says so if that changes anything. Again when an order that is given
/// back puts the same product into the cart at the same moment.
async fn edit(
    shell: &Shell,
    owner: &Owner,
    product: ProductId,
    quantity: i64,
) -> Result<Cart, Problem> {
    let mut tries = 1;
    loop {
        match try_to_edit(shell, owner, product, quantity).await {
            Err(Fault::Conflict(_)) if tries < TRIES => tries += 1,
            edited => return edited?.map_err(full),
        }
    }
}

async fn try_to_edit(
    shell: &Shell,
    owner: &Owner,
    product: ProductId,
    quantity: i64,
) -> Result<Result<Cart, Full>, Fault> {
    let user = owner.user();
    let tx = owner.begin().await?;
    let mut loaded = load_cart(&tx, user).await?;
    let cart = loaded.carts.entry(user.clone()).or_default();
    let changed = match cart.set(product, quantity) {
        Ok(changed) => changed,
        Err(full) => return Ok(Err(full)),
    };
    let items = cart.items.iter().map(|(product_id, quantity)| CartItem {
        product_id: *product_id,
        quantity: *quantity,
    });
    let items = items.collect();
    let mut said = vec![];
    if changed {
        save(&tx, loaded).await?;
        let body = fact::cart_changed(user, product, quantity);
        said.push(Emission::fact(&catalog::CART_CHANGED, user, body));
    }
    shell.commit(tx, said).await?;
    let user_id = user.clone();
    Ok(Ok(Cart { user_id, items }))
}

fn full(_: Full) -> Problem {
    let detail = format!("a cart has at most {MAX_PRODUCTS} different products: remove one first");
    Problem::unprocessable("CART_FULL", detail)
}
