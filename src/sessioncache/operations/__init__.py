"""Every call of a cache, once, as a flow: a generator that both clients run.

The life of a call, from `cache.get_session("order-17", last_n_runs=5)` to bytes and back:

1. client.py    The method names its operation; `_run` makes a Context (options, deadline, topology), calls
                the operation, which is a generator, and hands it to the client's transport. The context also
                names the user whose sessions there are (`for_user`), and the lease that is written under.
2. read.py      `get_session` checks its arguments and makes a Lookup (lookup.py), which builds one Request:
                commands, to be sent as a MULTI. With a near cache it is a NearLookup, which asks a script
                what has changed of what the process holds, or has the answer already.
3. retry.py     `send` finds the server of the key and yields `Send(address, commands, seconds)`.
4. blocking.py  The transport takes a connection to that server, writes the packed commands, reads the
                replies and sends them into the generator (awaited.py does the same, with await).
5. retry.py     Each reply must fit its command. Errors are thrown into the generator here, and become a
                retry, a redirection, a full script, or an error of ours.
6. lookup.py     The reply must be about this session, of a known schema, and whole; what is sealed is opened
                (sealing.py), and a session of another user is none.
7. storage      session_hash and run_range turn fields and members into what the session object holds; runs
                stay packed until somebody looks at them, and their bodies longer (models/lazy.py).
8. read.py      The object gets a snapshot of what it was loaded as, for the next save or refresh.

If the session is absent and the context names where else it may be (`elsewhere`: a Db for agno does), it is
fetched from there between 6 and 7, and read again; a write that finds it absent does the same.

A write goes the same way, through write.py in place of read.py: a Precondition, one script, its reply as a
NamedTuple or an error, and then the indexes that the script could not reach (index.py). In a cluster, the
entries of indexes are flows of their own, which run together with the script: listed.py tells which are due.
"""
