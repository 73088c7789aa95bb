//! What to do for one workspace, as a function of what is wanted and what was seen.
//!
//! ```text
//!  server's answer ─▶ DesiredWorkspace ─┐
//!                                       ├─▶ plan ─▶ Plan { actions, waiting_on, termination }
//!  cluster ─────────▶ ObservedWorkspace ┘
//! ```
//! The one who executes a [`Plan`] carries its actions out in order, notes what came of each in the observation, and asks
//! again. A plan that is carried out leaves nothing to plan: `plan` then gives no action.
//!
//! [`Reconciler`] holds the state of all workspaces, and says which are worked on when and what the server is told.
//!
//! Three rules hold in everything here: nothing is deleted that the inventory does not list and that does not carry this
//! workspace's mark; volumes go only when the workspace is to be terminated; the inventory lists an object before it is
//! made, and forgets it after it is gone.

mod attempt;
mod desired;
mod inventory;
mod kind;
mod observed;
mod operator;
mod plan;
mod reconciler;
mod report;
mod schedule;
mod store;

pub use attempt::{Attempt, Ended, Fact, Outcome};
pub use desired::{
    DesiredObject, DesiredWorkspace, MAX_OBJECT_BYTES, MAX_OBJECTS, MAX_WORKSPACE_BYTES,
    RejectReason,
};
pub use inventory::{
    AGENT_ID_LABEL, INVENTORY_ID_LABEL, Inventory, InventoryError, OWNING_INVENTORY_ANNOTATION,
    ObjectKey, WORKSPACE_ID_ANNOTATION,
};
pub use kind::{KINDS, Kind, kind_of};
pub use observed::{Marked, NamespaceSeen, ObservedWorkspace, Seen};
pub use operator::{Definition, missing_fields, operator_state};
pub use plan::{Action, Plan, WaitingOn, plan};
pub use reconciler::{
    Content, DeploymentTold, Look, MAX_WORKSPACES, Reconciler, Report, Taken, WorkspaceId,
};
pub use report::{FailureStatus, Status, report};
pub use schedule::{End, MAX_CONCURRENT, Schedule};
pub use store::{Detail, Item, Meta, Place, Source};

#[cfg(test)]
mod tests;
