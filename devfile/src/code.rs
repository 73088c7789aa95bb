//! The stable names of all diagnostics, with what `devfile explain` says about each.

use crate::diagnostic::{RuleSet, Severity};

macro_rules! codes {
    ($($variant:ident $name:literal $severity:ident $rules:ident $title:literal $text:literal)*) => {
        /// The name of a diagnostic. It stays the same when the message's words change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $title] $variant,)*
        }

        impl Code {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One line about it.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// What it means, why it matters and what to do.
            #[must_use]
            pub fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// How bad it is unless the caller decided otherwise.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* }
            }

            /// Who demands it.
            #[must_use]
            pub fn rules(self) -> RuleSet {
                match self { $(Self::$variant => RuleSet::$rules,)* }
            }
        }
    };
}

impl Code {
    /// The code with this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.name() == name)
    }
}

codes! {
    NotUtf8 "not-utf8" Error Schema "The text is no UTF-8."
        "Devfiles are UTF-8, with or without a byte-order mark. The place shown is the first byte that does not fit. Save the file as UTF-8; iconv -f LATIN1 -t UTF-8 converts an old one."
    YamlSyntax "yaml-syntax" Error Schema "The text is no YAML."
        "The YAML reader stopped at the place shown. Frequent causes: a tab in the indentation, a value that starts with one of {[*&!%@` without quotes, or a colon with a space inside a value."
    DuplicateKey "duplicate-key" Error Schema "A mapping has the same key twice."
        "YAML forbids it, and most readers silently keep the last one, so that the first is lost without a word. Remove one of the two."
    UnquotedVariable "unquoted-variable" Error Schema "A variable reference stands without quotes."
        "A value that starts with {{ is a mapping in YAML's flow style. Put quotes around the whole value: image: \"{{image}}\"."
    UnsupportedTag "unsupported-tag" Error Schema "A YAML tag is not read here."
        "Binary values (!!binary) have no place in a devfile. Write the text itself."
    NumberNotFinite "number-not-finite" Error Schema "A number is infinite or not a number."
        "YAML has .inf and .nan, JSON does not, and a devfile must be expressible as JSON. Quote the value if a text is meant."
    DocumentTooLarge "document-too-large" Error Schema "The document is larger than 3 MiB."
        "Devfiles are read into memory whole, and their parents too. The limit is on the text of one document; move large Kubernetes manifests into files that are named by uri."
    TooDeep "too-deep" Error Schema "Lists and mappings stand too deep in one another."
        "No devfile needs more than 64 levels; deeper ones are made to break readers."
    TooManyValues "too-many-values" Error Schema "The document has too many values."
        "A document may have 250,000 values, counted after aliases are followed."
    AliasBomb "alias-bomb" Error Schema "Aliases repeat too much."
        "Each alias (*name) repeats what its anchor (&name) holds; aliases of aliases grow exponentially. At most 20,000 values and 4 MiB of text may come from aliases."
    TooManyElements "too-many-elements" Error Schema "A list has too many elements."
        "Components, commands and the three kinds of projects may have 10,000 elements each."
    ExtraDocuments "extra-documents" Warning Schema "Only the first of several YAML documents is read."
        "A file may hold several documents divided by ---. A devfile is the first one; what follows is not read by any tool."
    TooManyDiagnostics "too-many-diagnostics" Warning Schema "More problems were found than are shown."
        "At most 200 are shown at once."
    AmbiguousKey "ambiguous-key" Warning Schema "A key is a boolean or a number for other readers."
        "YAML 1.1 readers take a key like on, yes or 010 for a boolean or a number and then write it as true or 8. Here the key stays as it is written. Quote it to be safe everywhere."

    DocumentKind "document-kind" Error Schema "The document is neither a devfile nor a DevWorkspace or its template."
        "A devfile starts with schemaVersion; the other forms have apiVersion workspace.devfile.io/v1alpha2 and kind DevWorkspaceTemplate or DevWorkspace."
    JsonSyntax "json-syntax" Error Schema "The text is no JSON with comments."
        "A devcontainer.json is JSON with // and /* */ comments; a comma may stand behind the last element."
    ImageUnknown "image-unknown" Error Schema "A devcontainer.json does not say which image its container has."
        "It builds one, or takes it from Docker Compose; neither is done here. Build the image and name it: devfile convert --image registry.example.org/team/image:tag."
    WorkspaceFieldUnused "workspace-field-unused" Warning Schema "A field of a DevWorkspace beside its template is not used."
        "Only the template and the contributions become part of the result. Whether a workspace is started and which routing class it has is said when it is rendered."
    SchemaVersionMissing "schema-version-missing" Error Schema "The devfile does not say its schemaVersion."
        "schemaVersion is the one field every devfile needs. The newest is 2.3.0."
    SchemaVersionUnknown "schema-version-unknown" Error Schema "No schema has this version."
        "Known are 2.0.0, 2.1.0, 2.2.0, 2.2.1, 2.2.2 and 2.3.0, each also with a suffix after a hyphen (2.2.0-latest). Build metadata (2.2.0+b1) is not accepted by any tool. An unquoted 2.2 is a number in YAML: write 2.2.0."
    WrongType "wrong-type" Error Schema "A value has another type than the schema says."
        "Texts are strict: a value such as 1024, 0.5, true, yes or on is a number or a boolean in YAML 1.1 and must be quoted where a text is due. An empty value is null: leave the key away, or write {} or []."
    UnknownField "unknown-field" Error Schema "The schema of this version has no such field."
        "Fields that the schema does not know are refused rather than ignored, so that a misspelt field is not lost. Free keys are allowed below metadata and attributes only. Some fields need a newer schemaVersion: variables and attributes 2.1.0, image components and container annotation 2.2.0, dependentProjects 2.2.2."
    MissingField "missing-field" Error Schema "A field that is required is missing."
        "See the schema of the devfile's version for what each element needs."
    OneOfMissing "one-of-missing" Error Schema "None of several alternatives is given."
        "An element is made of a name and exactly one body: a component is a container or a volume or another kind; a project comes from git or zip; a parent is named by uri, id or kubernetes."
    OneOfSeveral "one-of-several" Error Schema "Several alternatives are given of which one is allowed."
        "An element has exactly one body. Make two elements of it or remove one body."
    PatternMismatch "pattern-mismatch" Error Schema "A text does not have the form it needs."
        "Names and ids are lower-case letters, digits and hyphens, with a letter or digit at both ends. metadata.version has three parts, as 1.0.0."
    TextTooLong "text-too-long" Error Schema "A text is longer than allowed."
        "Names have at most 63 characters, names of endpoints at most 15 since schemaVersion 2.2.0, because they become names of Kubernetes objects and ports."
    ValueNotAllowed "value-not-allowed" Error Schema "A value is not one of those that are allowed."
        "The allowed values are listed in the message."
    RepeatedItem "repeated-item" Error Schema "A list that holds each value once holds one twice."
        "Remove one of the two."

    DuplicateName "duplicate-name" Error Library "Two components or two commands have the same name."
        "Components are told apart by name and commands by id, over all their kinds."
    EnvReserved "env-reserved" Error Library "An environment variable is set that tools set themselves."
        "PROJECTS_ROOT and PROJECT_SOURCE tell a container where the sources are. Use sourceMapping to move them."
    QuantityInvalid "quantity-invalid" Error Library "A size or share is no Kubernetes quantity."
        "A quantity is a number with an optional suffix: m, k, M, G, T, P, E, or Ki, Mi, Gi, Ti, Pi, Ei, or an exponent. 1GB is none: write 1G or 1Gi."
    RequestAboveLimit "request-above-limit" Error Library "A container asks for more than it may use."
        "Kubernetes refuses a container whose request exceeds its limit."
    AnnotationConflict "annotation-conflict" Error Library "Two containers give the same annotation different values."
        "The deployment and service annotations of all containers in one Pod go onto the same objects. Set dedicatedPod, or make the values equal."
    EndpointNameDuplicate "endpoint-name-duplicate" Error Library "Two endpoints have the same name."
        "Endpoint names are unique in the whole devfile, over all components."
    EndpointPortShared "endpoint-port-shared" Error Library "Two containers listen on the same port."
        "Containers of one Pod share its network, so that two cannot listen on one port. Several endpoints of one container may name the same port."
    VolumeMissing "volume-missing" Error Library "A container mounts a volume that no component defines."
        "Add a component with that name and volume: {}."
    UriInvalid "uri-invalid" Error Library "A uri cannot be read."
        "It is an absolute http or https address, or a path relative to the devfile."
    ImageRemotes "image-remotes" Error Library "The Dockerfile's git source does not have exactly one remote."
        "An image is built from one repository."
    CommandTypeInvalid "command-type-invalid" Error Library "A command is of a kind that cannot run here."
        "Commands are exec, apply or composite; custom ones belong to the tool that defines them."
    CommandComponentInvalid "command-component-invalid" Error Library "A command names a component that does not exist or is of the wrong kind."
        "exec runs in a container. apply takes a container, kubernetes, openshift or image component."
    CompositeSelf "composite-self" Error Library "A composite command names itself, directly or through another."
        "It would never end."
    CompositeUnknown "composite-unknown" Error Library "A composite command names a command that does not exist."
        "The commands of a composite are the ids of other commands of the devfile, after its parents were merged in."
    GroupDefaultMissing "group-default-missing" Warning Library "Several commands of one group kind, none of them the default."
        "A tool asked to build or run cannot know which one is meant. The Go library refuses such a devfile although its rules call this a warning; here it is a warning unless strict defaults are asked for."
    GroupDefaultSeveral "group-default-several" Error Library "Several commands of one group kind are the default."
        "Only one command of each kind (build, run, test, debug, deploy) may have isDefault: true."
    EventUnknownCommand "event-unknown-command" Error Library "An event names a command that does not exist."
        "Events list ids of commands. The comparison does not mind upper and lower case."
    EventWrongCommand "event-wrong-command" Error Library "An event names a command of the wrong kind."
        "preStart and postStop take apply commands, postStart and preStop take exec commands, each also as a composite of such commands, but not as a composite of composites."
    ProjectRemotes "project-remotes" Error Library "A project's git remotes are not clear."
        "A project needs at least one remote, and checkoutFrom.remote if it has several; a starter project has exactly one."
    ProjectRemoteUnknown "project-remote-unknown" Error Library "checkoutFrom names a remote that is not defined."
        "The name is a key of git.remotes."

    OperatorPreStart "operator-pre-start" Error Operator "DevWorkspace Operator runs only apply commands before the start."
        "It does not accept composite commands in preStart. Name the apply commands one by one."
    OperatorEvent "operator-event" Error Operator "DevWorkspace Operator runs only exec commands after the start and before the stop."
        "It does not accept composite commands in postStart and preStop. Name the exec commands one by one."
    OperatorProjects "operator-projects" Error Operator "Two projects share a name or a place."
        "DevWorkspace Operator refuses projects and dependent projects that have the same name or clone path."
    OperatorKubernetesUri "operator-kubernetes-uri" Warning Operator "DevWorkspace Operator ignores Kubernetes components by uri."
        "It applies inlined objects only. Flattening puts the contents of a uri in."
    OperatorUnsupported "operator-unsupported" Warning Operator "DevWorkspace Operator accepts this but does not do it."
        "container.annotation.service, dedicatedPod, image and custom components and postStop have no effect there."
    OperatorStorageType "operator-storage-type" Error Operator "The storage type is not one the operator knows."
        "controller.devfile.io/storage-type is common, per-user, per-workspace, ephemeral or async."
    OperatorContribution "operator-contribution" Error Operator "Container contributions cannot be merged."
        "When flattening as the operator does, containers with the attribute controller.devfile.io/container-contribution go into one other container: the one with controller.devfile.io/merge-contribution, else the first of the devfile or its parent. One component only may have that attribute, and no apply command may name a contribution."
    OperatorOverride "operator-override" Error Operator "An override sets a field that may not be overridden."
        "container-overrides may not set name, image, command, args, ports or env; pod-overrides may not set containers or initContainers. Use the fields of the devfile."
    OperatorDependentRemotes "operator-dependent-remotes" Error Operator "A dependent project's git remotes are not clear."
        "The Go library does not look at them, the operator does: at least one remote, and checkoutFrom.remote if there are several."

    EnvNameInvalid "env-name-invalid" Error Cluster "The API server refuses an environment variable with this name."
        "A name holds printable ASCII characters except =. Shells can use only letters, digits and underscores, not starting with a digit."
    EnvNameUnusual "env-name-unusual" Warning Cluster "A shell cannot use an environment variable with this name."
        "Shells take letters, digits and underscores, and no digit first."
    EnvDuplicate "env-duplicate" Warning Cluster "A container sets the same environment variable twice."
        "The last one wins in the container; server-side apply refuses the list."
    PortOutOfRange "port-out-of-range" Error Cluster "A port is not between 1 and 65535."
        "The schema does not check it; the API server does."
    PortNameInvalid "port-name-invalid" Warning Cluster "An endpoint's name cannot be the name of a port."
        "A port's name has at most 15 characters, at least one letter, and no two hyphens in a row. Such an endpoint's port is called port-<number>."
    ClonePathEscapes "clone-path-escapes" Error Cluster "A project would be cloned to a place outside of the projects folder."
        "clonePath is relative to PROJECTS_ROOT and does not contain `..`."
    ProjectDuplicate "project-duplicate" Error Cluster "Two projects have the same name or place."
        "Both would be cloned into the same folder. The Go library does not look."
    MountPathInvalid "mount-path-invalid" Error Cluster "A volume's path cannot be mounted."
        "A mount path is absolute and has no colon, and no two volumes of a container have the same."
    QuantityNegative "quantity-negative" Error Cluster "A size or share is below zero."
        "The Go library accepts it; the API server does not."
    QuantityZero "quantity-zero" Error Cluster "A volume has the size zero."
        "A PersistentVolumeClaim needs a size above zero."
    NameTooLong "name-too-long" Warning Cluster "A name will be cut."
        "Names of Kubernetes objects that are made of it have at most 63 characters; a cut name carries a hash so that two stay apart."
    ImageInvalid "image-invalid" Error Cluster "This is no name of a container image."
        "An image name has no white space and no upper-case letters in its repository: registry.example.org/team/image:tag."
    ZipLocationMissing "zip-location-missing" Warning Cluster "A zip project has no location."
        "Nothing can be downloaded."
    SourceMappingInvalid "source-mapping-invalid" Error Cluster "sourceMapping is no absolute path."
        "The sources are mounted there."
    UnresolvedVariable "unresolved-variable" Warning Cluster "A variable reference stands where variables are not replaced, or has no value."
        "Variables are replaced in the fields the standard lists. Not among them are names, references, cpuLimit, cpuRequest, annotations and attributes, pod-overrides included."
    InlinedInvalid "inlined-invalid" Error Cluster "The content of a kubernetes component is no Kubernetes object."
        "Each YAML document has apiVersion, kind and metadata.name."

    ImportFailed "import-failed" Error Library "A parent, a plugin or a file could not be read."
        "The message says what the fetcher answered."
    ImportCycle "import-cycle" Error Library "Parents or plugins name each other in a circle."
        "The message shows the chain."
    ImportLimit "import-limit" Error Library "Too many parents and plugins."
        "At most 64 may be drawn in, at most 16 levels deep."
    ImportVersion "import-version" Error Library "A parent or plugin has a newer schemaVersion than the devfile that names it."
        "Raise the schemaVersion of the devfile at least to its parent's."
    ImportRegistryMissing "import-registry-missing" Error Library "A parent or plugin is named by id but no registry is known."
        "Give registryUrl beside the id, or name a registry on the command line."
    OverrideUnknown "override-unknown" Error Library "An override names an element that the parent or plugin does not have."
        "New elements belong into the main body, not below parent or plugin."
    OverrideEmpty "override-empty" Warning Library "An empty value in an override changes nothing."
        "Overriding drops empty texts, lists and mappings, as the Go library does; to clear a value, set another one."
    MergeConflict "merge-conflict" Error Library "The devfile defines what its parent or plugin defines already."
        "This holds for components, commands, projects and also for top-level attributes and variables. To change it, move the element below parent (or the plugin)."
    VariableUnknown "variable-unknown" Warning Library "A variable is used that is not defined."
        "The text stays as it is. Define the variable at the top level or give it from outside."
    VariableTooLarge "variable-too-large" Error Library "A text becomes too large by its variables."
        "One text may have 1 MiB after substitution and all together may grow by 8 MiB."
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_found_again() {
        let names: BTreeSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(Code::by_name(code.name()), Some(*code));
            assert!(code.explanation().len() > 5);
        }
    }
}
