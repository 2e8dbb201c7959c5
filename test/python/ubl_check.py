#!/usr/bin/env python3
"""Checks UBL documents by the rules of EN 16931, from its text and with exact numbers.

Usage: ubl_check.py FILE...   Prints a line a fault, "FILE: RULE what"; nothing where all is right.
"""
import sys
import xml.etree.ElementTree as tree
from decimal import Decimal, ROUND_HALF_UP

CAC = "{urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2}"
CBC = "{urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2}"
EXPONENTS = {"JPY": 0, "BHD": 3}
# Of the elements that are used, in the order of the schemas of UBL 2.1.
ORDER = {
    "Invoice": "CustomizationID ID IssueDate DueDate InvoiceTypeCode Note DocumentCurrencyCode InvoicePeriod BillingReference"
    " AccountingSupplierParty AccountingCustomerParty Delivery PaymentMeans PaymentTerms TaxTotal LegalMonetaryTotal InvoiceLine",
    "CreditNote": "CustomizationID ID IssueDate CreditNoteTypeCode Note DocumentCurrencyCode InvoicePeriod BillingReference"
    " AccountingSupplierParty AccountingCustomerParty Delivery PaymentMeans PaymentTerms TaxTotal LegalMonetaryTotal CreditNoteLine",
    "Party": "PostalAddress PartyTaxScheme PartyLegalEntity Contact",
    "PostalAddress": "StreetName AdditionalStreetName CityName PostalZone CountrySubentity Country",
    "PartyLegalEntity": "RegistrationName CompanyID",
    "PaymentMeans": "PaymentMeansCode PaymentID PayeeFinancialAccount",
    "PayeeFinancialAccount": "ID Name FinancialInstitutionBranch",
    "TaxSubtotal": "TaxableAmount TaxAmount TaxCategory",
    "TaxCategory": "ID Percent TaxExemptionReason TaxScheme",
    "ClassifiedTaxCategory": "ID Percent TaxScheme",
    "LegalMonetaryTotal": "LineExtensionAmount TaxExclusiveAmount TaxInclusiveAmount PrepaidAmount PayableRoundingAmount PayableAmount",
    "InvoiceLine": "ID InvoicedQuantity LineExtensionAmount InvoicePeriod AllowanceCharge Item Price",
    "CreditNoteLine": "ID CreditedQuantity LineExtensionAmount InvoicePeriod AllowanceCharge Item Price",
    "AllowanceCharge": "ChargeIndicator AllowanceChargeReason Amount BaseAmount",
    "Item": "Description Name ClassifiedTaxCategory",
    "Delivery": "ActualDeliveryDate DeliveryLocation",
}


def local(element):
    return element.tag.split("}")[1]


def path(names):
    return "/".join((CAC if name in AGGREGATES else CBC) + name for name in names.split("/"))


AGGREGATES = set(ORDER) | set(
    "AccountingSupplierParty AccountingCustomerParty Party Country PartyTaxScheme TaxScheme Contact InvoicePeriod BillingReference"
    " InvoiceDocumentReference PaymentTerms TaxTotal Price FinancialInstitutionBranch DeliveryLocation Address".split())


class Document:
    def __init__(self, name):
        self.name = name
        self.root = tree.parse(name).getroot()
        self.faults = []

    def expect(self, is_right, rule, what=""):
        if not is_right:
            self.faults.append(f"{self.name}: {rule} {what}")

    def text(self, names, start=None):
        found = (self.root if start is None else start).find(path(names))
        return None if found is None else found.text

    def number(self, names, start=None):
        found = self.text(names, start)
        return Decimal(found) if found is not None else Decimal(0)

    def check(self):
        kind = local(self.root)
        self.expect(self.root.tag == "{urn:oasis:names:specification:ubl:schema:xsd:%s-2}%s" % (kind, kind), "namespace", self.root.tag)
        self.check_order()
        for rule, names in (("BR-01", "CustomizationID"), ("BR-02", "ID"), ("BR-03", "IssueDate"), ("BR-04", kind + "TypeCode"),
                            ("BR-05", "DocumentCurrencyCode"), ("BR-06", "AccountingSupplierParty/Party/PartyLegalEntity/RegistrationName"),
                            ("BR-07", "AccountingCustomerParty/Party/PartyLegalEntity/RegistrationName"),
                            ("BR-08", "AccountingSupplierParty/Party/PostalAddress"),
                            ("BR-09", "AccountingSupplierParty/Party/PostalAddress/Country/IdentificationCode"),
                            ("BR-10", "AccountingCustomerParty/Party/PostalAddress"),
                            ("BR-11", "AccountingCustomerParty/Party/PostalAddress/Country/IdentificationCode"),
                            ("BR-12", "LegalMonetaryTotal/LineExtensionAmount"), ("BR-13", "LegalMonetaryTotal/TaxExclusiveAmount"),
                            ("BR-14", "LegalMonetaryTotal/TaxInclusiveAmount"), ("BR-15", "LegalMonetaryTotal/PayableAmount"),
                            ("BR-16", kind + "Line"), ("BR-CO-18", "TaxTotal/TaxSubtotal")):
            self.expect(self.root.find(path(names)) is not None, rule, names)
        self.expect(self.text(kind + "TypeCode") == {"Invoice": "380", "CreditNote": "381"}[kind], "BT-3")
        self.check_parties()
        self.check_amounts()
        self.check_lines(kind)
        self.check_totals()
        self.check_taxes()
        return self.faults

    def check_order(self):
        for element in self.root.iter():
            names = [local(child) for child in element]
            self.expect(not (len(element) == 0 and not (element.text or "").strip()), "empty element", local(element))
            if local(element) in ORDER:
                order = ORDER[local(element)].split()
                self.expect(all(name in order for name in names) and names == sorted(names, key=order.index), "order in", local(element))

    def vat_id(self, party):
        for scheme in self.root.findall(path(party + "/Party/PartyTaxScheme")):
            if self.text("TaxScheme/ID", scheme) == "VAT":
                return self.text("CompanyID", scheme)
        return None

    def registration(self, party):
        return self.text(party + "/Party/PartyLegalEntity/CompanyID")

    def check_parties(self):
        seller = "AccountingSupplierParty"
        self.expect(self.vat_id(seller) or self.registration(seller), "BR-CO-26")
        for party in (seller, "AccountingCustomerParty"):
            country = self.text(party + "/Party/PostalAddress/Country/IdentificationCode")
            self.expect(country is not None and len(country) == 2 and country.isupper(), "BR-CL-14", country)
            vat_id = self.vat_id(party)
            self.expect(vat_id is None or vat_id[:2] == {"GR": "EL"}.get(country, country), "BR-CO-09", vat_id)
        for means in self.root.findall(path("PaymentMeans")):
            self.expect(self.text("PaymentMeansCode", means) == "30", "BR-49")
            self.expect(self.text("PayeeFinancialAccount/ID", means), "BR-61")

    def check_amounts(self):
        currency = self.text("DocumentCurrencyCode")
        for element in self.root.iter():
            if local(element).endswith("Amount"):
                self.expect(element.get("currencyID") == currency, "currency of", local(element))
                decimals = max(-Decimal(element.text).as_tuple().exponent, 0)
                self.expect(decimals <= EXPONENTS.get(currency, 2), "BR-DEC of", f"{local(element)} {element.text}")
                self.expect("E" not in element.text and "," not in element.text, "plain decimal", element.text)

    def check_lines(self, kind):
        quantity = {"Invoice": "InvoicedQuantity", "CreditNote": "CreditedQuantity"}[kind]
        positions = []
        for line in self.root.findall(path(kind + "Line")):
            positions.append(self.text("ID", line))
            self.expect(line.find(path(quantity)).get("unitCode"), "BR-23")
            self.expect(self.text("Item/Name", line), "BR-25")
            self.expect(self.number("Price/PriceAmount", line) >= 0, "BR-27", self.text("ID", line))
            self.expect(self.text("Item/ClassifiedTaxCategory/ID", line), "BR-CO-04")
            less = Decimal(0)
            for allowance in line.findall(path("AllowanceCharge")):
                self.expect(self.text("ChargeIndicator", allowance) == "false" and self.text("AllowanceChargeReason", allowance), "BR-42")
                self.expect(self.number("Amount", allowance) > 0, "allowance above zero")
                less += self.number("Amount", allowance)
            self.expect(self.number(quantity, line) * self.number("Price/PriceAmount", line) - less == self.number("LineExtensionAmount", line),
                        "quantity × price - allowances", self.text("ID", line))
            self.expect(self.text("InvoicePeriod/StartDate", line) <= self.text("InvoicePeriod/EndDate", line), "BR-30")
        self.expect(len(set(positions)) == len(positions), "BR-21")
        self.lines = self.root.findall(path(kind + "Line"))

    def check_totals(self):
        total = {name: self.number("LegalMonetaryTotal/" + name) for name in ORDER["LegalMonetaryTotal"].split()}
        self.expect(total["LineExtensionAmount"] == sum(self.number("LineExtensionAmount", line) for line in self.lines), "BR-CO-10")
        self.expect(total["TaxExclusiveAmount"] == total["LineExtensionAmount"], "BR-CO-13")
        self.expect(total["TaxInclusiveAmount"] == total["TaxExclusiveAmount"] + self.number("TaxTotal/TaxAmount"), "BR-CO-15")
        self.expect(total["PayableAmount"] == total["TaxInclusiveAmount"] - total["PrepaidAmount"] + total["PayableRoundingAmount"], "BR-CO-16")
        self.expect(abs(total["PayableRoundingAmount"]) <= Decimal("0.05"), "rounding is small")
        self.expect(total["PayableAmount"] <= 0 or self.text("DueDate") or self.text("PaymentTerms/Note"), "BR-CO-25")

    def check_taxes(self):
        groups = {}
        for line in self.lines:
            key = (self.text("Item/ClassifiedTaxCategory/ID", line), self.number("Item/ClassifiedTaxCategory/Percent", line))
            groups[key] = groups.get(key, 0) + self.number("LineExtensionAmount", line)
        subtotals = {}
        for subtotal in self.root.findall(path("TaxTotal/TaxSubtotal")):
            category, rate = self.text("TaxCategory/ID", subtotal), self.number("TaxCategory/Percent", subtotal)
            base, amount = self.number("TaxableAmount", subtotal), self.number("TaxAmount", subtotal)
            reason = self.text("TaxCategory/TaxExemptionReason", subtotal)
            self.expect((category, rate) not in subtotals, "BR-S-01", f"{category} {rate} twice")
            subtotals[category, rate] = base
            self.expect(category in ("S", "Z", "E", "AE", "K", "G", "O", "L", "M"), "BR-CL-17", category)
            exact = base * rate / 100
            # What is rounded by line is off by half a unit a line.
            unit = Decimal(1).scaleb(-EXPONENTS.get(self.text("DocumentCurrencyCode"), 2))
            rounded = exact.quantize(unit, ROUND_HALF_UP)
            self.expect(abs(amount - rounded) <= unit * (len(self.lines) + 1) / 2, "BR-CO-17", f"{base} at {rate} %: {amount}")
            if category in ("S", "Z", "L", "M"):
                self.expect(reason is None, "BR-S-10", reason)
            else:
                self.expect(reason and amount == 0 and rate == 0, "BR-E-10", category)
            self.expect(category != "S" or rate > 0, "BR-S-05")
            if category == "O":
                self.expect(subtotal.find(path("TaxCategory/Percent")) is None, "BR-O-05")
                self.expect(not self.vat_id("AccountingSupplierParty") and not self.vat_id("AccountingCustomerParty"), "BR-O-02")
                self.expect(len(self.root.findall(path("TaxTotal/TaxSubtotal"))) == 1, "BR-O-11")
            if category in ("AE", "K"):
                self.expect(self.vat_id("AccountingSupplierParty"), "BR-AE-02 seller")
                self.expect(self.vat_id("AccountingCustomerParty") or (category == "AE" and self.registration("AccountingCustomerParty")), "BR-AE-02 customer")
            if category == "K":
                self.expect(self.text("Delivery/ActualDeliveryDate"), "BR-IC-11")
                self.expect(self.text("Delivery/DeliveryLocation/Address/Country/IdentificationCode"), "BR-IC-12")
        self.expect(subtotals == groups, "BR-S-08", f"{subtotals} {groups}")
        self.expect(self.number("TaxTotal/TaxAmount") == sum(self.number("TaxAmount", s) for s in self.root.findall(path("TaxTotal/TaxSubtotal"))), "BR-CO-14")


faults = [fault for name in sys.argv[1:] for fault in Document(name).check()]
print("\n".join(faults), end="\n" if faults else "")
sys.exit(1 if faults else 0)
