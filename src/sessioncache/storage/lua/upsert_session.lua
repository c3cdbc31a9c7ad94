-- Create a session, or merge fields and runs into the one that is stored.
--
-- KEYS, ARGV[1..6], result: as in _session.lua; ARGV[7] max_runs or '', ARGV[8] '*' to create, '' not to, else to
-- create unless somebody else than this one deleted it lately; ARGV[9] how many fields to set, ARGV[10] fields to
-- remove, ARGV[11] dicts to remove; then field, value, ..., then field, ..., then the field of a dict, ..., then six
-- arguments a run (_upsert.lua). A damaged session counts as absent. What would create does not know when, and as
-- what, the stored session was created: both stay.

local SET = 12
local set_end = SET + 2 * ARGV[9] - 1
local remove_end = set_end + ARGV[10]
local dicts_end = remove_end + ARGV[11]
local first = dicts_end + 1
local creates, revives = ARGV[8] ~= '', ARGV[8] ~= '' and ARGV[8] ~= '*'
local EMPTY_DICT = '\1\128' -- packed; kept from birth on, so that what it lacks was never written

-- Remove each dict, whole: the field that says it is one, and those of its keys, whoever wrote them.
local function remove_dicts()
  if dicts_end == remove_end then return end
  for _, field in ipairs(redis.call('HKEYS', meta)) do
    for i = remove_end + 1, dicts_end do
      if field == ARGV[i] or string.sub(field, 1, #ARGV[i] + 1) == ARGV[i] .. '.' then
        redis.call('HDEL', meta, field)
      end
    end
  end
end

local s, status, detail = open()
local missing = status == 'absent' or status == 'deleted' or status == 'damaged'
if not s and not (missing and creates) then return refused(status, detail) end
-- Who deleted a session may save it again as it was, but not into one that was made anew since.
if revives and deleter() and (s or deleter() ~= ARGV[8]) then return refused('deleted') end
local found, refusal = {}, nil
if s then found, refusal = find(first) end
if not found then return refusal end
local had_runs = s and s.count > 0
local created_at, session_type
if s and creates then
  created_at, session_type = unpack(redis.call('HMGET', meta, 'created_at', 'session_type'))
end
if not s then
  redis.call('HSET', meta, 'rev', '0')
  redis.call('DEL', meta, runs)
  local born = exact(microseconds)
  redis.call('HSET', meta, 'born', born, 'schema', '1', 'system_messages', EMPTY_DICT)
  if deleter() then redis.call('HSET', meta, 'deleted', deletion) end
  s = {rev = microseconds, was = born, born = microseconds, born_text = born, count = 0, seq = 0}
end
local placed, full = place(s, found, first)
if not placed then return full end
bump(s, orders_of(found))
remove_dicts()
set(SET, set_end)
for i = set_end + 1, remove_end, CHUNK do
  redis.call('HDEL', meta, unpack(ARGV, i, math.min(i + CHUNK - 1, remove_end)))
end
if created_at then redis.call('HSET', meta, 'created_at', created_at) end
if session_type then redis.call('HSET', meta, 'session_type', session_type) end
s.updated_at = redis.call('HGET', meta, 'updated_at')
put(s, found, first)
trim(s, tonumber(ARGV[7]))
expire(had_runs)
list(s)
local reply, owner = answer(s), redis.call('HMGET', meta, 'user_id', 'workflow_id')
reply[7], reply[8] = owner[1], owner[2]
return reply
