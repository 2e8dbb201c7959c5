-- The library calls its own functions, and not what somebody put beside them that fits better.
SELECT * FROM no_plan();
CREATE ROLE own_stranger;
GRANT CREATE ON SCHEMA public TO own_stranger;
SET ROLE own_stranger;
-- By exact types, where ours has a cast; and by our types, where ours has defaults.
CREATE FUNCTION pg_temp.shadow(signature text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE FUNCTION public.%s RETURNS tenancy.tenant LANGUAGE plpgsql AS $f$ BEGIN RAISE EXCEPTION ''a stranger runs as %%'', current_user; END $f$', signature);
	RETURN signature;
END $$;
SELECT isnt(pg_temp.shadow(s), NULL, 'a stranger makes ' || s) FROM unnest(ARRAY['tenant_configure(uuid, jsonb)', 'tenant_create(text, text, text, text, text, text)',
	'resource_allocate(uuid, jsonb)', 'resource_scale(uuid, jsonb)', 'resource_deallocate(uuid, uuid)', 'scrape_target_set(uuid, text, jsonb)', 'scrape_target_set(regtenant, text)',
	'scrape_target_remove(uuid, text)', 'subscription_cancel(uuid, text)', 'job_run_due()']) s;
RESET ROLE;
SELECT throws_ok($$SELECT public.tenant_configure(gen_random_uuid(), '{}'::jsonb)$$, 'P0001', NULL, 'which is what a call by exact types finds');

SELECT id AS onboarding FROM onboarding_start('{"slug": "own-call", "plan": "starter"}') \gset
-- Here or in a background worker.
CREATE FUNCTION pg_temp.wait() RETURNS boolean LANGUAGE plpgsql SET max_parallel_workers_per_gather = 0 AS $$ BEGIN FOR i IN 1..100 LOOP EXIT WHEN EXISTS (SELECT FROM tenancy.workflow_step s JOIN tenancy.workflow w ON w.id = s.workflow_id WHERE w.request->>'slug' = 'own-call' AND s.step = 'database_setup' AND s.state IN ('completed', 'failed')); PERFORM public.job_run_due(100); PERFORM pg_sleep(0.1); END LOOP; RETURN true; END $$;
SELECT pg_temp.wait() \g /dev/null
SELECT is((SELECT state FROM tenancy.tenant WHERE slug = 'own-call'), 'active', 'the tenant of an onboarding is created by us');
SELECT is((onboarding_step_execute(:'onboarding', 'github_integration', '{"installation_id": 1, "webhook_secret": "0123456789abcdef"}')).state, 'completed', 'a step configures the tenant');
SELECT is((SELECT configuration #>> '{integrations,github,installation_id}' FROM tenancy.tenant WHERE slug = 'own-call'), '1', 'itself');

SELECT is((provision_infrastructure('own-call', '{"pooled": false, "allocation": {"limits": {"connections": 5}}}')).state, 'active', 'an allocation is made');
SELECT is((provision_infrastructure('own-call', '{"pooled": false, "allocation": {"limits": {"connections": 6}}}')).state, 'active', 'and changed');
SELECT is((SELECT limits ->> 'connections' FROM tenancy.allocation a WHERE a.tenant_id = 'own-call'::regtenant), '6', 'by us');
SELECT is((provision_remove('own-call', 'infrastructure')).state, 'removed', 'and taken back');

SELECT is((tenant_delete('own-call')).state, 'deactivated', 'a tenant is deleted');
SELECT is((SELECT cancel_reason FROM tenancy.subscription WHERE tenant_id = 'own-call'::regtenant), 'tenant deleted', 'with its subscription');
SELECT is((tenant_undelete('own-call')).state, 'active', 'and comes back');

DROP OWNED BY own_stranger;
DROP ROLE own_stranger;
SELECT * FROM finish();
