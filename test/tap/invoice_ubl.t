#!/bin/bash
# Invoices and credit notes as UBL: well-formed, with all that EN 16931 wants, and sums that hold (test/python/ubl_check.py).
. "$(dirname "$0")/lib.sh"
command -v python3 > /dev/null || skip_all "there is no python3"
cluster_start --set tenancy.workers=off
documents=$(mktemp -d "$top/build/invoice_ubl.XXXXXX")
trap 'rm -rf "$documents"; cluster_stop' EXIT

psql -XAtq -v ON_ERROR_STOP=1 > /dev/null <<'SQL' || { echo "Bail out! no documents"; exit 1; }
SET tenancy.test_clock = '2026-02-01 00:00:00+00';
SELECT tax_rate_create('s19', 19, 'VAT'), tax_rate_create('s7', 7, 'Reduced VAT'), tax_rate_create('z', 0, 'Zero', category => 'Z'), tax_rate_create('e', 0, 'Exempt', category => 'E'),
       tax_rate_create('k', 0, 'Intra', category => 'K'), tax_rate_create('g', 0, 'Export', category => 'G'), tax_rate_create('o', 0, 'Outside', category => 'O'),
       tax_rate_create('i19', 19, 'VAT', is_inclusive => true), tax_rate_create('odd', 5, 'Odd', category => 'E');
SELECT id FROM legal_entity_set('default', '{"name": "Nordlicht & Söhne GmbH", "address": {"line1": "Speicherstadt 14", "line2": "3. Stock", "postal_code": "20457", "city": "Hamburg", "region": "HH"}, "country": "DE", "tax_id": "DE287654321", "email": "billing@nordlicht.example", "bank_account": {"iban": "DE89370400440532013000", "bic": "COBADEFFXXX", "holder": "Nordlicht"}}');
SELECT id FROM legal_entity_set('whole', '{"name": "Whole", "address": {"city": "Athens"}, "country": "GR", "tax_id": "EL123456789", "tax_rounding": "invoice"}');
SELECT count(tenant_create(t, isolation => 'pool')) FROM unnest('{plain,several,whole,zero,exempt,charged,intra,export,outside,within,yen,dinar,lone,mixed,odd,nameless}'::text[]) t;
SELECT count(billing_account_set(t::regtenant, '{"name": "Acme <b>&\"Co\"</b>", "address": {"line1": "Rue 1", "postal_code": "75001", "city": "Paris"}, "country": "FR", "tax_id": "FR12345678901", "email": "ap@acme.example"}'))
  FROM unnest('{plain,several,whole,zero,exempt,charged,intra,export,outside,within,yen,dinar,mixed,odd}'::text[]) t;
SELECT billing_account_set('whole', '{"legal_entity": "whole"}'), billing_account_set('charged', '{"tax_treatment": "reverse_charge", "exemption_reason": "Reverse charge, Article 196"}'),
       billing_account_set('exempt', '{"tax_treatment": "exempt", "exemption_reason": "A school"}');
SELECT coupon_create('third', '{"kind": "percent", "value": 33.3, "duration": "forever"}');
SELECT coupon_apply('several', 'third'), coupon_apply('within', 'third');
CREATE FUNCTION public.bill(who text, prices numeric[], rates text[], currency text DEFAULT 'EUR') RETURNS uuid LANGUAGE sql AS $$
    SELECT invoice_item_add(who, who || ' ' || n || chr(11), p, currency, 3, tax_rates => string_to_array(rates[n], '+')) FROM unnest(prices) WITH ORDINALITY u(p, n);
    SELECT (invoice_finalize((invoice_generate(who)).id)).id $$;
SELECT bill('plain', '{33.333,0.005,-5}', '{s19,s19,s19}'), bill('several', '{10.01,20.02,0,7.77}', '{s19,s7,s19,z}'), bill('whole', '{68.331,68.332}', '{s19,s7}'), bill('zero', '{5}', '{z}'),
       bill('exempt', '{5,6}', '{s19,s19+s7}'), bill('charged', '{5,6}', '{s19,s7}'), bill('intra', '{5}', '{k}'), bill('export', '{5}', '{g}'), bill('outside', '{5}', '{o}'),
       bill('within', '{119,0.99,3}', '{i19,i19,i19}'), bill('yen', '{1234.5}', '{s19}', 'JPY'), bill('dinar', '{1.2345}', '{s19}', 'BHD');
SELECT bill('lone', '{5}', '{s19}'), bill('mixed', '{5,6}', '{s19,o}'), bill('mixed', '{5}', '{s19+s7}'), bill('odd', '{5}', '{odd}');
UPDATE tenancy.invoice SET amount_paid = 10 WHERE tenant_id = 'plain'::regtenant;
SELECT credit_note_create(id, 'Too <much>', '[{"position": 1, "amount": 33.34}]') FROM tenancy.invoice WHERE tenant_id IN ('plain'::regtenant, 'within'::regtenant);
SELECT credit_note_create(id, 'Rest') FROM tenancy.invoice WHERE tenant_id IN ('plain'::regtenant, 'within'::regtenant, 'several'::regtenant, 'whole'::regtenant, 'charged'::regtenant, 'yen'::regtenant);
SELECT invoice_item_add('plain', 'Draft', 1, 'EUR'), invoice_generate('plain');
SQL
sql "SELECT t.slug, i.id FROM tenancy.invoice i JOIN tenancy.tenant t ON t.id = i.tenant_id WHERE i.number IS NOT NULL AND slug NOT IN ('lone', 'mixed', 'odd')" | while IFS='|' read -r slug id; do
	sql "SELECT invoice_ubl('$id')" > "$documents/invoice_$slug.xml"
done
sql "SELECT number, id FROM tenancy.credit_note" | while IFS='|' read -r number id; do
	sql "SELECT credit_note_ubl('$id')" > "$documents/$number.xml"
done
is "$(find "$documents" -name '*.xml' -size +2k | wc -l)" 20 "twelve invoices and eight credit notes are documents"
is "$(sql "SELECT count(invoice_ubl(i.id)::xml IS DOCUMENT) FROM tenancy.invoice i JOIN tenancy.tenant t ON t.id = i.tenant_id WHERE i.number IS NOT NULL AND slug NOT IN ('lone', 'mixed', 'odd')")" 12 "well-formed, as PostgreSQL reads them"
is "$(python3 "$top/test/python/ubl_check.py" "$documents"/*.xml 2>&1)" "" "the rules of EN 16931 hold, and the sums"
for change in '0,\|<cbc:PayableAmount currencyID="EUR">|s||&1|/BR-CO-16' '0,\|<cbc:TaxAmount currencyID="EUR">|s||&1|/BR-CO-14' '0,\|<cbc:LineExtensionAmount currencyID="EUR">|s||&1|/BR-CO-10' \
	's|<cbc:IdentificationCode>DE.*||/BR-09' 's|<cbc:DueDate>.*||/BR-CO-25' 's|<cbc:Percent>19|<cbc:Percent>20|/BR-CO-17' 's|<cbc:ID>S</cbc:ID>|<cbc:ID>E</cbc:ID>|/BR-E-10'; do
	sed "${change%/*}" "$documents/invoice_plain.xml" > "$documents/broken"
	like "$(python3 "$top/test/python/ubl_check.py" "$documents/broken" 2>&1)" "${change##*/}" "a document that breaks ${change##*/} is found"
done
if command -v xmllint > /dev/null; then
	is "$(xmllint --noout "$documents"/*.xml 2>&1)" "" "xmllint reads them, too"
else
	skip "xmllint reads them, too" "there is no xmllint"
fi

# What is where, by hand: 33.333, 0.005 and -5, three of each, at 19 %, 10.00 paid, and credited in two notes.
value() { python3 -c 'import re, sys; print(*re.findall("<cbc:%s[^>]*>([^<]*)<" % sys.argv[2], open(sys.argv[1]).read()))' "$documents/$1.xml" "$2"; }
is "$(value invoice_plain LineExtensionAmount)" "85.02 100.00 0.02 -15.00" "3 × 33.333 = 100.00, 3 × 0.005 = 0.02 and -15.00: 85.02"
is "$(value invoice_plain PayableAmount)" "91.17" "with 19 % of each, 19.00, 0.00 and -2.85: 101.17; less 10.00"
is "$(value invoice_plain InvoiceTypeCode)$(value CN-000001 CreditNoteTypeCode)" "380381" "types of documents"
is "$(value invoice_several LineExtensionAmount)" "75.64 20.03 40.06 0.00 15.55" "33.3 % of 113.40 is 37.76: 10.00, 20.00 and 7.76 are allowances of lines"
is "$(value CN-000001 Note)" "Too &lt;much&gt; 39.67 off invoice INV-000001, 0.00 added to credit, 0.00 to be refunded" "a credit note says why, and what becomes of it"
is "$(grep -c 'Acme &lt;b&gt;&amp;&quot;Co&quot;&lt;/b&gt;' "$documents/invoice_plain.xml")" 1 "names are escaped"
is "$(value invoice_exempt TaxExemptionReason)$(value invoice_charged TaxExemptionReason)" "A schoolReverse charge, Article 196" "reasons"

error() { sql "SELECT $1_ubl(id) FROM tenancy.$1 WHERE $2" | head -n 2 | tr '\n' ' '; }
like "$(error invoice "tenant_id = 'lone'::regtenant")" '55000: "INV-[0-9]+" lacks what EN 16931 requires.*Missing: country of the customer' "what is missing is named"
like "$(error invoice "tenant_id = 'mixed'::regtenant AND line_count = 2")" '55000: lines of "INV-[0-9]+" bear VAT, and others bear none' "what is not subject to VAT comes alone"
like "$(error invoice "tenant_id = 'mixed'::regtenant AND line_count = 1")" '55000: line 1 of "INV-[0-9]+" bears several taxes' "one tax a line"
like "$(error invoice "tenant_id = 'odd'::regtenant")" '55000: "INV-[0-9]+" has tax of category "E" at 5 %' "exempt at five percent"
like "$(error invoice "state = 'draft'")" '55000: the invoice is draft' "a draft"
sql "SELECT id FROM legal_entity_set('default', '{\"name\": \"\", \"country\": null, \"tax_id\": null, \"address\": null}'); SELECT invoice_item_add('nameless', 'x', 1, 'EUR'); SELECT invoice_finalize((invoice_generate('nameless')).id)" > /dev/null
like "$(error invoice "tenant_id = 'nameless'::regtenant")" 'Missing: name of the seller, address of the seller, country of the seller, tax_id of the seller, country of the customer' "all of it at once"
like "$(sql 'SELECT invoice_ubl(gen_random_uuid())')" 42704 "an unknown invoice"
like "$(sql 'SELECT credit_note_ubl(gen_random_uuid())')" 42704 "an unknown credit note"
is "$(sql 'SELECT invoice_ubl(NULL) IS NULL AND credit_note_ubl(NULL) IS NULL')" t "null"
own=$(sql "SELECT id FROM tenancy.invoice WHERE tenant_id = 'zero'::regtenant")
other=$(sql "SELECT id FROM tenancy.invoice WHERE tenant_id = 'plain'::regtenant AND number IS NOT NULL")
note=$(sql "SELECT id FROM tenancy.credit_note LIMIT 1")
in_context() { psql -XAtq -v VERBOSITY=verbose -c "BEGIN" -c "SELECT tenant_context_set('zero')" -c "SELECT $1" -c COMMIT 2>&1 | sed 1d; }
is "$(in_context "length(invoice_ubl('$own')) > 1000")" t "a tenant has its own invoices"
like "$(in_context "invoice_ubl('$other')")" 42704 "and no others"
like "$(in_context "credit_note_ubl('$note')")" 42704 "nor credit notes"
done_testing
