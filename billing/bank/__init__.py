"""The rules of money that comes by bank transfer; bank_importing, bank_matching and bank_returns act by them.

references   ISO 11649 creditor references and IBANs, with their check digits
lines        what a line of a statement says, and by what it is known again
camt, rows   a statement's file read: CAMT.053 (ISO 20022), CSV
"""
