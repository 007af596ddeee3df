//! What an order's user reads, in English or Korean.

use axum::http::{HeaderMap, header};
use events::body::Reason;

use crate::domain::{Order, State};

/// A language that messages exist in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    English,
    Korean,
}

impl Language {
    /// The language that `Accept-Language` asks for most (RFC 9110, 12.5.4); English when
    /// it asks for none of ours.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let wanted = headers
            .get(header::ACCEPT_LANGUAGE)
            .and_then(|value| value.to_str().ok());
        let mut best = (0.0, Self::English);
        for part in wanted.unwrap_or_default().split(',') {
            let (tag, quality) = match part.split_once(";q=") {
                Some((tag, quality)) => (tag, quality.trim().parse().unwrap_or(0.0)),
                None => (part, 1.0_f32),
            };
            let language = match tag.trim().to_ascii_lowercase().split('-').next() {
                Some("ko") => Self::Korean,
                Some("en" | "*") => Self::English,
                _ => continue,
            };
            if quality > best.0 {
                best = (quality, language);
            }
        }
        best.1
    }
}

/// One sentence on how the order stands.
pub(super) fn message(order: &Order, language: Language) -> String {
    let (english, korean) = match (order.state, order.reason) {
        (State::Pending, _) => (
            "Your order is being processed.",
            "주문을 처리하고 있습니다.",
        ),
        (State::Confirmed, _) => ("Your order is confirmed.", "주문이 확정되었습니다."),
        (_, Some(Reason::CanceledByUser)) => ("Your order is canceled.", "주문이 취소되었습니다."),
        (_, Some(Reason::DeadlinePassed)) => (
            "Your order could not be completed in time and is canceled.",
            "제시간에 완료되지 않아 주문이 취소되었습니다.",
        ),
        _ => return refused(order, language),
    };
    match language {
        Language::English => english,
        Language::Korean => korean,
    }
    .to_owned()
}

fn refused(order: &Order, language: Language) -> String {
    let why: Vec<&str> = order
        .refusals
        .iter()
        .map(|heard| {
            let (english, korean) = match heard.refusal.code.as_str() {
                "OUT_OF_STOCK" => ("there is not enough stock", "재고가 부족합니다"),
                "UNKNOWN_PRODUCT" => ("a product does not exist", "존재하지 않는 상품입니다"),
                "PRICE_CHANGED" => ("a price has changed", "상품 가격이 변경되었습니다"),
                "INSUFFICIENT_POINTS" => ("there are not enough points", "포인트가 부족합니다"),
                "COUPON_NOT_USABLE" => ("the coupon cannot be used", "쿠폰을 사용할 수 없습니다"),
                "CART_SHORT" => (
                    "the cart does not hold what was ordered",
                    "장바구니 수량이 부족합니다",
                ),
                _ => ("a step was refused", "처리할 수 없는 단계가 있습니다"),
            };
            match language {
                Language::English => english,
                Language::Korean => korean,
            }
        })
        .collect();
    match (language, why.is_empty()) {
        (Language::English, true) => "Your order could not be completed.".to_owned(),
        (Language::English, false) => {
            format!("Your order could not be completed: {}.", why.join(", "))
        }
        (Language::Korean, true) => "주문을 완료할 수 없습니다.".to_owned(),
        (Language::Korean, false) => format!("주문을 완료할 수 없습니다: {}.", why.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_asked_for_most_is_chosen() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_LANGUAGE, value.parse().expect("valid"));
            Language::of(&headers)
        };
        assert_eq!(of("ko-KR,ko;q=0.9,en;q=0.8"), Language::Korean);
        assert_eq!(of("en;q=0.9,ko;q=0.5"), Language::English);
        assert_eq!(of("fr, de"), Language::English);
        assert_eq!(Language::of(&HeaderMap::new()), Language::English);
    }
}
