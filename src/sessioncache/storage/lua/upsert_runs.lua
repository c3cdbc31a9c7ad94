-- Store runs of a session that exists, each at the place it has or at that of its creation time.
--
-- KEYS, ARGV[1..6], result: as in _session.lua; ARGV[7] max_runs or '', ARGV[8] how many fields of meta to set,
-- then field, value, ..., then six arguments a run (_upsert.lua). Returns {'stale', session_id, run_id} if the stored
-- run is of a later attempt, {'changed', session_id, run_id} if it is not the one expected, {'full', session_id, run_id}
-- if no more runs can have its created_at.

local SET = 9
local first = SET + 2 * ARGV[8]
local s, status, detail = open()
if not s then return refused(status, detail) end
local found, refusal = find(first)
if not found then return refusal end
local had_runs = s.count > 0
local placed, full = place(s, found, first)
if not placed then return full end
bump(s, orders_of(found))
set(SET, first - 1)
put(s, found, first)
trim(s, tonumber(ARGV[7]))
expire(had_runs)
list(s)
return answer(s)
