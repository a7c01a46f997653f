"""
What tests share, a module a kind.

users           people at the API: a `Person` from the database, a `Member` by the front door; their wallets
tokens          tokens over HTTP: had, renewed, shown, refused
registrations   registrations with any codes
refusals        problem documents
images, fees    profile images; the worker's run of fees
staff           staff signed in to the admin
dashboard       the worker dashboard's page
production      a production server's settings
request_bodies  bodies for any operation: valid, nearly valid, rubbish
purses, banks   wallets and their owners' orders below the API; the banks that carry those out
prices          what a dollar costs
postgres        a test's database: audited, watched, held up, poisoned
unfit           a database that answers and can't serve, in every way
waiting         until something is so
patience        how long a busy machine may take where a test is not about silence
wallet_processes, processes   `wallet` commands as real processes; which processes live in a folder
load            callers behind a load balancer
third_parties   a mail server and a web server
tls             self-signed certificates; TLS before a server that speaks plainly; servers of another kind
wire            a connection without a network
walkthrough     a visit in which everything happens once
"""
