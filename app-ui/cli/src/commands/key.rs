//! `key owner`.

use std::process::ExitCode;

use mast_control::{KeyOwner, Request, user_id};

use super::{Context, Outcome};
use crate::failure::{FAILED, Failure};
use crate::output::text::clean;

pub async fn owner(context: &mut Context, user: Option<String>) -> Outcome {
    let said = user.as_deref().map(clean);
    let number = match &user {
        Some(name) => {
            let unknown = || Failure::Other(FAILED, format!("there is no user `{}`", clean(name)));
            Some(user_id(name).ok_or_else(unknown)?)
        }
        None => None,
    };
    context.client().await?.done(&Request::KeyOwner(KeyOwner { user: number })).await?;
    context.out.line(match said {
        Some(user) => format!("The private key belongs to {user}, who can take it into a key store now."),
        None => "The private key belongs to nobody but root.".to_owned(),
    })?;
    Ok(ExitCode::SUCCESS)
}
