//! Pages of a list, newest first, that stay correct while entries are added: the cursor
//! is the last id that was seen, never a position.

use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::http::Problem;

const DEFAULT: u32 = 20;
const MAX: u32 = 100;

/// `limit` and `cursor`, as they come.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// How many entries a page has at most
    #[param(value_type = Option<i64>, minimum = 1, maximum = 100, default = 20)]
    limit: Option<String>,
    /// The `next_cursor` of the page before
    #[param(value_type = Option<uuid::Uuid>)]
    cursor: Option<String>,
}

/// A page that was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    limit: u32,
    before: Uuid,
}

impl Page {
    /// Checks what was asked for.
    ///
    /// # Errors
    /// 422 that names the field.
    pub fn of(query: &PageQuery) -> Result<Self, Problem> {
        Self::new(query.limit.as_deref(), query.cursor.as_deref())
    }

    /// Checks what was asked for.
    ///
    /// # Errors
    /// 422 that names the field.
    pub fn new(limit: Option<&str>, cursor: Option<&str>) -> Result<Self, Problem> {
        let limit = limit.map_or(Some(DEFAULT), |limit| limit.parse().ok());
        let limit = limit.filter(|limit| (1..=MAX).contains(limit));
        let rule = || Problem::invalid("limit", &format!("must be 1 to {MAX}"));
        let limit = limit.ok_or_else(rule)?;
        let before = match cursor {
            None => Uuid::max(),
            Some(cursor) => cursor
                .parse()
                .map_err(|_| Problem::invalid("cursor", "must be the `next_cursor` of a page"))?,
        };
        Ok(Self { limit, before })
    }

    /// Entries below this id are on the page.
    #[must_use]
    pub fn before(&self) -> Uuid {
        self.before
    }

    /// How many to read: one more than the page has, to know whether there is another.
    #[must_use]
    pub fn fetch(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// The entries of the page, and the cursor of the next one if there is one.
    #[must_use]
    pub fn cut<T>(&self, mut read: Vec<T>, id: impl Fn(&T) -> Uuid) -> (Vec<T>, Option<Uuid>) {
        let limit = self.limit as usize;
        let more = read.len() > limit;
        read.truncate(limit);
        let next = read.last().filter(|_| more).map(id);
        (read, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_given_only_when_there_is_another_page() {
        let page = Page::new(Some("2"), None).expect("valid");
        let ids: Vec<Uuid> = (1..=3).rev().map(Uuid::from_u128).collect();
        assert_eq!(
            page.cut(ids.clone(), |id| *id),
            (ids[..2].to_vec(), Some(ids[1]))
        );
        assert_eq!(
            page.cut(ids[..2].to_vec(), |id| *id),
            (ids[..2].to_vec(), None)
        );
    }

    #[test]
    fn limits_are_checked() {
        for limit in ["0", "101", "-1", "1.5", "", "ten"] {
            assert!(Page::new(Some(limit), None).is_err());
        }
        assert!(Page::new(None, Some("nonsense")).is_err());
    }
}
