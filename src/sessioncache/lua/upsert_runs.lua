-- Store runs of a session that exists, each at the place it has or at that of its creation time.
--
-- KEYS, ARGV[1..6], answer: as in _session.lua; ARGV[7] max_runs or '', then six arguments a run (_runs.lua).
-- Answers {'stale', run_id} where the stored run is of a later attempt; nothing is stored then.

local FIRST = 8
local s, status = open()
if not s then return {status} end
local found, stale = find(FIRST)
if not found then return {'stale', stale} end
local had_runs = s.count > 0
place(s, found, FIRST)
bump(s)
put(s, found, FIRST)
trim(s, tonumber(ARGV[7]))
expire(had_runs)
list(s)
return answer(s)
