//! The nouns of the cluster as plain data that cannot be wrong.
//!
//! Every other crate speaks in these types. Nothing here does I/O, reads a clock or draws a random
//! number; text from outside is parsed once, at the border, into a type that needs no second check.
//! All types are `serde` values with named fields, so that a newer peer may add a field and an
//! older one still reads the rest (see docs/design/001-one-schema.md).

pub mod assignment;
mod causes;
mod check;
pub mod cidr;
pub mod constraint;
mod dependency_name;
mod event;
pub mod id;
pub mod image_reference;
pub mod name;
pub mod object;
mod patch;
mod payload;
mod port_runs;
pub mod request;
pub mod resources;
mod signal;
pub mod spec;
pub mod template;
pub mod time;
mod usage;

pub use assignment::{
    AssignedDependency, Assignment, AssignmentDiff, AssignmentSet, DataPathPeer, EndpointStage, HostNetwork,
    ManagerPeer, OverlayContainer, OverlayDiff, OverlayEndpoint, OverlayService, OverlayState, ProbePeer, ProbeReport,
    TaskReport,
};
pub use causes::with_causes;
pub use check::{Check, CheckVerdict};
pub use cidr::{Cidr, CidrError};
pub use constraint::{Constraint, ConstraintError};
pub use dependency_name::{DependencyName, DependencyNameError, MAX_DEPENDENCY_NAME};
pub use event::{ClusterEvents, ObjectAction, ObjectEvent, ObjectKind};
pub use id::{ClusterId, DependencyId, Id, IdError, NetworkId, NodeId, ServiceId, TaskId};
pub use image_reference::{DEFAULT_REGISTRY, ImageReference, ImageReferenceError};
pub use name::{Name, NameError};
pub use object::*;
pub use payload::Payload;
pub use request::{
    AttachRequest, BackupWords, Counts, Filters, NetworkView, NodeView, ReadReply, ReadRequest, ServiceChange,
    ServiceView, StackDeploy, StackView, SubnetUsage, WriteReply, WriteRequest,
};
pub use resources::{
    Bytes, BytesError, GenericResource, GenericResourceError, GenericResources, NanoCpus, Resources,
    generic_resource_env, parse_generic_resources,
};
pub use signal::{NoSignal, Signal};
pub use spec::*;
pub use time::{Timestamp, parse_duration};
pub use usage::{ClusterUsage, HeldUsage, MissingUsage, NodeUsage, TaskUsage, Traffic};

/// Free key/value pairs on objects, ordered so that equal maps print and compare equal.
pub type Labels = std::collections::BTreeMap<String, String>;
