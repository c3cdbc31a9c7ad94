"""How a command reaches a server. Nothing here knows what a session is, and only this folder imports redis.

- flow: what an operation may ask for: a generator yields effects and is sent their results
- request: commands for the server that holds a key
- retry: sends a request until the call's time is over: retries, redirections, whether the replies fit
- together: several flows at the same time: what they send goes out at once, one write to each server
- batch: sends many requests, in one round trip for each server, all of them at once
- topology: which server holds a key: one server, a cluster, or the master that Sentinels name
- redis_errors: what an exception of redis-py means, and our error for it
- outages, permissions: the log lines about retries; the check before the first write
- url, endpoint, handshake, probe: a URL, taken apart; how to connect; the first round trip of a connection;
  which other protocol a server speaks
- at_once: exchanges of blocking code with several servers
- blocking, awaited: connections, and the loop that runs flows over them
- embedded: in-process servers for `memory://`
"""
