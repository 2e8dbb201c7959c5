#!/bin/bash
# Invoices and credit notes as pages: valid HTML that needs nothing else, prints on A4, and hides nothing.
# test/run: long
. "$(dirname "$0")/lib.sh"
cluster_start --set tenancy.workers=off
pages=$(mktemp -d "$top/build/invoice_page.XXXXXX")
chmod 755 "$pages"
trap 'rm -rf "$pages"; cluster_stop' EXIT

psql -XAtq -v ON_ERROR_STOP=1 > /dev/null <<'SQL' || { echo "Bail out! no documents"; exit 1; }
SET tenancy.test_clock = '2026-02-01 00:00:00+00';
SELECT id FROM tax_rate_create('de19', 19, 'VAT', country => 'DE');
SELECT id FROM tax_rate_create('within', 19, 'VAT', is_inclusive => true);
SELECT id FROM legal_entity_set('default', '{"name": "Nordlicht Software GmbH", "address": {"line1": "Speicherstadt 14", "postal_code": "20457", "city": "Hamburg"}, "country": "DE", "tax_id": "DE287654321", "email": "billing@nordlicht.example", "bank_account": {"iban": "DE89370400440532013000", "bic": "COBADEFFXXX", "holder": "Nordlicht Software GmbH"}, "tax_rates": ["de19"]}');
SELECT code FROM coupon_create('WELCOME', '{"kind": "percent", "value": 10, "name": "Welcome"}');
SELECT id FROM plan_create('team', 'Team', 'professional', '{"type": "usage_based", "base_price": 99, "base_timing": "advance", "currency": "EUR", "billing_period": "monthly", "charges": [{"id": "seats", "name": "Seats", "model": "per_unit", "per_seat": true, "timing": "advance", "unit": "seats", "unit_price": 12.5}, {"id": "calls", "name": "API calls", "model": "graduated", "metric": "api_calls", "unit": "calls", "tiers": [{"up_to": 10000, "unit_price": 0}, {"unit_price": 0.002}]}, {"id": "storage", "name": "Storage", "model": "per_unit", "metric": "storage", "unit": "GB", "unit_price": 0.25}]}');
SELECT slug FROM tenant_create('acme', 'Acme Werkzeugbau AG', isolation => 'pool');
SELECT tenant_id FROM billing_account_set('acme', '{"name": "Acme Werkzeugbau AG", "address": {"line1": "Industriestraße 7", "line2": "Halle 3", "postal_code": "70565", "city": "Stuttgart", "region": "BW"}, "country": "DE", "tax_id": "DE812345678", "email": "ap@acme.example"}');
SELECT id FROM subscription_create('acme', 'team', '2026-01-01 00:00+01', 'Europe/Berlin', 8, options => '{"coupon": "WELCOME"}');
SELECT usage_record('acme', 'api_calls', 1234567, occurred_at => '2026-01-15 00:00+00'), usage_record('acme', 'storage', 412.75, occurred_at => '2026-01-15 00:00+00');
SELECT * FROM billing_run('2026-02-01 00:00+00');
-- seats within the period; what is done once; credit; a credit note; a refund that is to come
SELECT * FROM subscription_update((SELECT id FROM tenancy.subscription), '{"quantity": 12, "invoice": "now"}', '2026-02-11 00:00+01');
SELECT * FROM invoice_item_add('acme', 'Migration workshop', 950, 'EUR', 2);
SELECT id FROM credit_add('acme', 100, 'thanks', 'EUR');
SELECT * FROM billing_run('2026-02-11 00:00+01');
SELECT credit_note_create(id, 'Calls of 12 January were counted twice', '[{"position": 1, "amount": 200}]') FROM tenancy.invoice WHERE number = 'INV-000002';
SELECT * FROM invoice_item_add('acme', 'Paid, and taken back', 100, 'EUR');
SELECT invoice_finalize((invoice_generate('acme')).id);
UPDATE tenancy.invoice SET amount_paid = 119, state = 'paid', paid_at = '2026-02-03 00:00+00' WHERE number = 'INV-000004';
SELECT credit_note_create(id, 'Not delivered', NULL, 'refund') FROM tenancy.invoice WHERE number = 'INV-000004';
-- reverse charge, and many lines
SELECT slug FROM tenant_create('globex', 'Globex', isolation => 'pool');
SELECT tenant_id FROM billing_account_set('globex', '{"name": "Globex B.V.", "address": {"line1": "Keizersgracht 100", "city": "Amsterdam"}, "country": "NL", "tax_id": "NL123456789B01", "tax_treatment": "reverse_charge", "exemption_reason": "The recipient is liable for VAT (Article 196, Directive 2006/112/EC)."}');
SELECT count(*) FROM (SELECT invoice_item_add('globex', 'Incident report no. ' || n || ' of two hundred', 12.5 * n, 'EUR') FROM generate_series(1, 200) n) x;
SELECT invoice_finalize((invoice_generate('globex')).id);
-- prices with tax within, and names that would be markup
SELECT slug FROM tenant_create('shop', '</title><script>alert("x")</script>', isolation => 'pool');
SELECT tenant_id FROM billing_account_set('shop', jsonb_build_object('address', jsonb_build_object('line1', '<img src=x onerror=alert(1)>', 'city', 'O''Hara & "Sons" &amp;'), 'email', chr(7) || chr(1) || chr(133) || 'bell@example.com'));
SELECT count(*) FROM (SELECT invoice_item_add('shop', d, 119, 'EUR', tax_rates => '{within}') FROM unnest(ARRAY['</td></table><b>bold</b>', repeat('Unbreakable_', 20), '-->' , E'two\nlines']) d) x;
SELECT invoice_finalize((invoice_generate('shop')).id);
-- a void one, a draft, one without anything known of anybody
SELECT id FROM invoice_item_add('shop', 'Mistake', 1, 'EUR');
SELECT invoice_void((invoice_finalize((invoice_generate('shop')).id)).id, 'mistake');
SELECT id FROM invoice_item_add('shop', 'Not yet', 0.0001, 'JPY', 123456789.5);
SELECT invoice_generate('shop');
SQL
render() { # render FUNCTION QUERY FILE
	sql "SELECT $1(($2))" > "$pages/$3.html"
}
for n in 1 2 3 4 5 6 7; do render invoice_html "SELECT id FROM tenancy.invoice WHERE number = 'INV-00000$n'" "invoice_$n"; done
render invoice_html "SELECT id FROM tenancy.invoice WHERE state = 'draft' AND currency = 'JPY'" draft
for n in 1 2; do render credit_note_html "SELECT id FROM tenancy.credit_note WHERE number = 'CN-00000$n'" "note_$n"; done
is "$(find "$pages" -name '*.html' -size +3k | wc -l)" 10 "ten documents are pages"

# What is on them, as text.
text() { sed -e '1,/<body>/d' -e 's/<[^>]*>//g' "$pages/$1.html" | tr '\n' ' '; }
like "$(text invoice_2)" 'Invoice INV-000002 3,036.07 EUR due on 15 February 2026' "the number, what is due (2,751.32, 522.75 of tax, less 238.00) and when"
like "$(text invoice_2)" 'Acme Werkzeugbau AG Industriestraße 7 Halle 3 70565 Stuttgart BW DE Tax id DE812345678 ap@acme.example' "the customer with its tax id"
like "$(text invoice_2)" 'Nordlicht Software GmbH Speicherstadt 14 20457 Hamburg DE Tax id DE287654321' "the seller with its own"
like "$(text invoice_2)" 'API calls1,234,567 calls2,449.13' "quantity and amount: 1,224,567 × 0.002"
like "$(text invoice_2)" 'Storage412.75 GB0.25103.19' "the price of a unit"
like "$(text invoice_2)" 'Team 1 February 2026 &ndash; 28 February 2026199.0099.00' "the period of a line that differs from the page's"
like "$(text invoice_1)" 'Subtotal199.00 Welcome&minus;19.90 VAT 19&#8239;% on 179.1034.03 Total213.13' "discount by coupon, tax by rate, total"
like "$(text invoice_3)" 'Unused time of Seats.*11 February 2026 &ndash; 28 February 2026 &middot; 18 of 28 days12 seats12.5096.43' "which part of a period a line is for"
like "$(text invoice_3)" 'Paid from credit&minus;100.00 Amount due2,199.24' "credit that was applied"
like "$(text invoice_2)" 'Credit notes CN-000001 of 1 February 2026: 238.00 EUR' "its credit notes"
like "$(text invoice_2)" 'By bank transfer Nordlicht Software GmbH DE89&nbsp;3704&nbsp;0044&nbsp;0532&nbsp;0130&nbsp;00 &middot; COBADEFFXXX Reference INV-000002' "where to pay to"
like "$(text invoice_4)" '119.00 EUR will be refunded.*Paid3 February 2026.*Credit notes&minus;119.00 Paid&minus;119.00 To be refunded119.00' "what goes back"
like "$(text invoice_5)" 'Reverse charge The recipient is liable for VAT \(Article 196, Directive 2006/112/EC\)\.' "why there is no tax"
like "$(text invoice_6)" 'TotalVAT 19&#8239;% within: 76.00 on 400.00476.00' "tax within the prices"
like "$(text invoice_7)" 'Void: nothing is due' "a void one says so"
like "$(text draft)" 'Invoice A draft, which is not due.*123,456,789.50.000112,346' "a draft, too, which has no number"
like "$(text note_1)" 'Credit note CN-000001 238.00 EUR &middot; Calls of 12 January were counted twice.*Of invoiceINV-000002 Invoiced1 February 2026' "a credit note names its invoice and reason"
like "$(text note_1)" 'API calls200.00 +Subtotal200.00 VAT 19&#8239;% on 200.0038.00 Total238.00 Off invoice INV-000002238.00' "and takes tax back"
like "$(text note_2)" 'Total119.00 To be refunded119.00' "what becomes of it"
is "$(grep -ciE '<(script|img|b>|link|iframe)|onerror=[^<]*>|https?:|url\(|@import' "$pages"/*.html | sed 's/.*://' | sort -u)" 0 "nothing is loaded, and no name is markup"
is "$(LC_ALL=C grep -c $'[\x01-\x08\x0b-\x1f\x7f]\\|\xc2\x85' "$pages/invoice_6.html")" 0 "no control character is left"

if install_node_modules; then
	is "$(cd "$node_modules" && npx --no-install html-validate "$pages"/*.html 2>&1)" "" "html-validate finds nothing wrong"
	sed 's|</main>||' "$pages/note_1.html" > "$pages/broken.html"
	like "$(cd "$node_modules" && npx --no-install html-validate "$pages/broken.html" 2>&1)" 'close-order' "it would have"
	if command -v java > /dev/null; then
		is "$(java -jar "$node_modules/node_modules/vnu-jar/build/dist/vnu.jar" --exit-zero-always --format gnu "$pages"/invoice_*.html "$pages"/note_*.html "$pages/draft.html" 2>&1 | grep -v ': info')" "" "nor does the Nu HTML checker"
	else
		skip "the Nu HTML checker" "there is no java"
	fi
else
	skip "the pages are valid HTML" "there is no node with npm, or npm could not install html-validate"
fi

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
if [ -z "$browser" ] || ! command -v pdfinfo pdftotext > /dev/null; then
	skip "the pages print on A4" "there is no chromium, or no pdfinfo"
	done_testing
fi
print() { # print NAME: as a browser without a screen does
	HOME=$pages timeout 120 "$browser" --headless --no-sandbox --disable-gpu --no-pdf-header-footer \
		--user-data-dir="$pages/profile" --print-to-pdf="$pages/$1.pdf" "file://$pages/$1.html" > "$pages/log" 2>&1
}
sheets() { pdfinfo "$pages/$1.pdf" | sed -n 's/^Pages: *//p'; }
for name in invoice_2 invoice_3 invoice_6 draft note_1; do
	print "$name"
	is "$(sheets "$name")" 1 "$name prints on one sheet"
done
is "$(pdfinfo "$pages/invoice_2.pdf" | grep -c 'Page size:.*A4')" 1 "of A4"
print invoice_5
pdftotext -layout "$pages/invoice_5.pdf" "$pages/invoice_5.txt"
pages_of_many=$(sheets invoice_5)
ok $((pages_of_many < 7 || pages_of_many > 12)) "200 lines flow over $pages_of_many sheets"
is "$(awk 'BEGIN { RS = "\f" } /Incident report/ && !/Unit price/' "$pages/invoice_5.txt")" "" "each that has lines has the head of the table"
is "$(grep -oE 'Incident report no\. [0-9]+ of two hundred' "$pages/invoice_5.txt" | sort -u | wc -l)" 200 "none is lost"
is "$(grep -cE "^ *[0-9]+ ?/ ?$pages_of_many\$" "$pages/invoice_5.txt")" "$pages_of_many" "sheets are numbered"
like "$(awk 'BEGIN { RS = "\f" } NF { last = $0 } END { print last }' "$pages/invoice_5.txt" | tr -s ' \n' ' ')" 'Subtotal 251,250.00 VAT 0.% on 251,250.00 0.00 Total 251,250.00 Amount due 251,250.00 By bank transfer Reverse charge' "the totals stay together, and with the notes"
done_testing
