/* workflow: defining, starting, following and recovering workflows. */

CREATE OR REPLACE FUNCTION @extschema@.workflow_define(
    name text, definition jsonb)
RETURNS tenancy.workflow_definition
AS 'MODULE_PATHNAME', 'tenancy_workflow_define'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.workflow_define(text, jsonb) IS
'Defines a workflow, as a new version where there is one of the name; workflows that run keep theirs. definition: {"purpose": "onboarding" or "provisioning", for the events, "steps": [{"id", "name", "type": "system" or "user", "required": true, "depends_on": [], "timeout_seconds", "retryable": true, "retry": as in job_kind_define(), "validator", "processor", "compensation", "command": {"name", "do", "check", "undo"}}]}. A command is one of tenancy.command_file, run by a job with the parameter "action" as said here; a processor and a compensation then make its input, and the step has what it says as its result. The three are functions of the library, or signatures of functions of one jsonb that return jsonb, as job_kind_define() takes them; a validator returns {"valid", "errors"}. Result: the row. Errors: 22023 bad structure, unknown or circular dependencies, which are listed; 42883 unknown function; 42809, 42501 as job_kind_define(). Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.workflow_define(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.workflow_define(text, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.onboarding_start(
    request jsonb, workflow text DEFAULT 'onboarding', idempotency_key text DEFAULT NULL)
RETURNS tenancy.workflow
AS 'MODULE_PATHNAME', 'tenancy_onboarding_start'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.onboarding_start(jsonb, text, text) IS
'Starts a workflow. request: a JSON object; for the shipped one "slug", and if wanted "name", "plan", "isolation", "template", "domain", and "entities", a list of Backstage entities or a text as catalog_import() takes it, with "entities_table" for its into_table, and "github_account", whose installation of the GitHub App it must be. workflow: of workflow_define(), in its latest version. idempotency_key: the same key and request return the first workflow. Result: the workflow, whose system steps background workers or job_run_due() do. Errors: 42704 not defined; 22023; 23505 the idempotency key was used with another request; 42501 within a tenant context. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.onboarding_start(jsonb, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.onboarding_start(jsonb, text, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.onboarding_step_execute(
    workflow uuid, step text, data jsonb DEFAULT '{}')
RETURNS tenancy.workflow_step
AS 'MODULE_PATHNAME', 'tenancy_onboarding_step_execute'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.onboarding_step_execute(uuid, text, jsonb) IS
'Does a step that a user has to do, in the callers transaction. workflow: id. step: one whose turn it is. data: what the step needs; of the shipped one github_integration {"installation_id", "webhook_secret"} and plugin_selection {"plugins": [names]}. It is not kept. Result: the step. Errors: 42704 unknown; 55000 not its turn; 22023 data that is not valid; 53400 more than the plan allows. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.onboarding_step_execute(uuid, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.onboarding_step_execute(uuid, text, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.onboarding_step_validate(
    workflow uuid, step text, data jsonb DEFAULT '{}')
RETURNS jsonb
AS 'MODULE_PATHNAME', 'tenancy_onboarding_step_validate'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.onboarding_step_validate(uuid, text, jsonb) IS
'Says whether a step could be done with the data: by its validator, else by doing it and undoing that. workflow, step, data: as in onboarding_step_execute(). Result: {"valid", "errors"}. Errors: 42704 unknown; 55000 not its turn. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.onboarding_step_validate(uuid, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.onboarding_step_validate(uuid, text, jsonb) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.onboarding_progress(
    workflow uuid)
RETURNS jsonb
AS 'MODULE_PATHNAME', 'tenancy_onboarding_progress'
LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.onboarding_progress(uuid) IS
'How far a workflow is. workflow: id. Result: state, percent of the required steps, next: steps a user can do now, eta_seconds from how long the steps have usually taken, and the steps with what each waits for. Errors: 42704 unknown. Rights: tenancy_admin, tenancy_auditor.';
REVOKE ALL ON FUNCTION @extschema@.onboarding_progress(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.onboarding_progress(uuid) TO tenancy_admin, tenancy_auditor;

CREATE OR REPLACE FUNCTION @extschema@.onboarding_complete(
    workflow uuid)
RETURNS tenancy.workflow
AS 'MODULE_PATHNAME', 'tenancy_onboarding_complete'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.onboarding_complete(uuid) IS
'Completes a workflow whose required steps are done; optional ones that are open are skipped. Once completed it does nothing. workflow: id. Result: the workflow. Errors: 55000 a required step is open, or the workflow has failed; 42704 unknown. Rights: tenancy_admin. Side effects: the event tenant.onboarding.success.';
REVOKE ALL ON FUNCTION @extschema@.onboarding_complete(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.onboarding_complete(uuid) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.onboarding_recover(
    workflow uuid, action text DEFAULT 'retry')
RETURNS tenancy.workflow
AS 'MODULE_PATHNAME', 'tenancy_onboarding_recover'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.onboarding_recover(uuid, text) IS
'Takes up a workflow that is stuck. workflow: id. action: "retry" failed steps and those whose jobs are gone, "skip" them where they are optional, or "rollback": undo what is done by the compensations, the last first, all or nothing; where commands did it jobs undo it, and the workflow is "compensating" meanwhile. Of one that could not be undone "rollback" tries again, and "skip" says that a human has undone the step. Result: the workflow. Errors: 55000 it is over, or a required step cannot be skipped; 22023 another action; 42704 unknown; those of the compensations. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.onboarding_recover(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.onboarding_recover(uuid, text) TO tenancy_admin;

CREATE OR REPLACE FUNCTION @extschema@.catalog_import(
    tenant @extschema@.regtenant, entities text, into_table text DEFAULT NULL)
RETURNS TABLE (entity_row integer, entity_ref text, imported boolean, error text)
AS 'MODULE_PATHNAME', 'tenancy_catalog_import'
LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.catalog_import(@extschema@.regtenant, text, text) IS
'Imports entities in the form of Backstages catalog. tenant: slug or id. entities: JSON, as an array, as a document a line, or as documents one after another, which is what yq makes of YAML; at most 100000. into_table: a table of the tenants schema, filled with the tenants rights in the columns it has of entity_ref, api_version, kind, namespace, name, title, description, metadata, spec, relations and entity; null for tenancy.catalog_entity, where the plan limits their number. Result: a row for each entity, with its reference and why it was not imported. Errors: 22P02 an array that is no JSON; 22023 too many, or a table without such a column; 42P01 no such table; 55000 the tenant has no schema or is not active; 42704 unknown tenant; 42501 within a tenant context. Rights: tenancy_admin.';
REVOKE ALL ON FUNCTION @extschema@.catalog_import(@extschema@.regtenant, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.catalog_import(@extschema@.regtenant, text, text) TO tenancy_admin;
