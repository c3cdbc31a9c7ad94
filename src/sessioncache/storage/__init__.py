"""How a session lies in Redis: pure functions, which send nothing.

A session is two keys under one cluster hash tag; ID is the session id, percent-encoded. A prefix with a hash
tag of its own puts all keys in one slot:

    {prefix}:{ID}:meta   HASH
        session_id user_id workflow_id workflow_name created_at updated_at   plain text
        session_data.<key> session_state.<key> ...                            packed, one field a key
        session_data session_state ...                                        packed {} or packed None, so
                                                                              that empty and missing differ
        system_messages.agent:<id> system_messages.team:<id>                  who has a message of the system
        rev      new with every write: the server's microseconds, and more than before
        born     rev at creation: tells a session that was made anew from the old one
        count    runs stored                   seq     runs ever added
        schema   version of this layout
        changes  the last writes, in up to 512 bytes: for each `;<rev before it>:<orders of runs it wrote or
                 removed>`, and at the end `;<rev>`; who holds what was read as of one of these revisions
                 reads only those runs. Runs removed by max_runs, the oldest ones, are not in it
        lease    <number>:<until, in ms>:<who>: the lease that was taken last; to take it is no write
        deleted  <until, in ms>:<who>: the mark of a deletion, if caches leave one, alone in `meta` for a day;
                 it stays if the session is made anew

    {prefix}:{ID}:runs   ZSET, three members for each run, at scores made of one number, its *order*
        order = created_at * 2**20 + n         n-th run of that second, from 1; exact in a double
        h<attempt>:<version>:<packed head>   at  order            what history needs; version: the
                                                            rev, less born, of its last write
        i<run_id>                            at  order / 2**60    ZSCORE finds a run, a range lists the ids
        b<packed [run_id, body]>             at -order            the heavy rest

Both ends of the sorted set are native slices: the newest heads are a reverse range from +inf, the newest
bodies a range from -inf. The kind byte keeps a hostile run_id from being any other member.
Indexes for listing live in slots of their own:

    {prefix}:index:all  {prefix}:index:user:<id>  {prefix}:index:workflow:<id>
        ZSET of session ids scored by updated_at

In a cluster, those of all sessions and of a workflow would each be one busy key: they are split into 64
shards, `{prefix}:index:all:{<n>}`, whose names hash to equal parts of the slots. A session is listed in the
shard of the part that its own slot is in, so mostly on its own node. With a prefix that has a hash tag,
indexes are whole. There an entry can be ahead of its session, for it is sent at the same time as the write,
which may be refused: readers go by the session, and correct only entries that are older than any write takes.

A session that was imported from another library's keys leaves a mark, which outlives it; it is not imported
again. `{prefix}:index:imported` says that there is nothing more to import. Nothing else looks at either:

    {prefix}:{ID}:imported  {prefix}:index:imported     HASH

A packed value begins with a format byte: msgpack, or, if a cache is told to, a zstd frame of a packed value
(`compression`), or a sealed one (`encryption`, see sealing.py). Of a run, what follows the version of
the head and the kind byte of the body is sealed; of a hash, all fields but ids, times, those that the scripts
keep, and markers of dicts.

Numbers are up to 16 digits, at most 2**53; a session whose numbers are anything else, or whose members do
not fit its count, is *damaged*: it counts as absent, and is neither read nor written to. An entry of an index
stays while its session is there, be it readable or not.

Workers of several versions run beside each other. Without a new `schema`, a later version may add fields,
dicts and their keys to `meta`, entries to heads and bodies, and indexes; it keeps writing all that is
described here. What a version does not know, it keeps: fields are neither decoded nor removed, entries of
heads and bodies stay in the part they came in. If an older client would read or write something wrong, the
`schema` is a new one. A client that meets a `schema` it does not know raises SessionVersionError: it never
reads, writes, repairs or deletes the session, and leaves it in every index. A new format byte or extension
type of values, too, needs a new `schema`, or readers that were there before it is written.

A layout with another `schema` keeps the names and types of both keys, the indexes, and the fields session_id,
user_id, workflow_id, updated_at and schema: by these, older versions list its sessions, and leave them alone.
"""
