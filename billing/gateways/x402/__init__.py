"""x402: payments an agent signs and sends along with its request; a facilitator puts them on the chain.

wire.py writes and reads the headers, proofs.py checks what was signed (typed_data.py: whose it is), facilitators.py
settles, gateway.py is the Gateway. EIP-712 is spoken here and not by the `x402` package, whose checks want web3 and
the forty packages it brings.
"""
