-- Create a session, or merge fields and runs into the one that is stored.
--
-- KEYS, ARGV[1..6], answer: as in _session.lua, with born after the workflow_id; ARGV[7] max_runs or '',
-- ARGV[8] '1' to create, ARGV[9] fields to set, ARGV[10] fields to remove, then field, value, ...,
-- then field, ..., then six arguments a run (_runs.lua). A damaged session counts as absent. What would
-- create does not know when the stored session was created: that stays.

local SET = 11
local set_end = SET + 2 * ARGV[9] - 1
local remove_end = set_end + ARGV[10]
local first = remove_end + 1
local CHUNK = 5000

local s, status = open()
local missing = status == 'absent' or status == 'damaged'
if not s and not (missing and ARGV[8] == '1') then return {status} end
local found, stale = find(first)
if s and not found then return {'stale', stale} end
local had_runs = s and s.count > 0
local created_at = s and ARGV[8] == '1' and redis.call('HGET', meta, 'created_at')
if not s then
  local born = seconds * 1000000 + now[2]
  redis.call('HSET', meta, 'rev', '0')
  redis.call('DEL', meta, runs)
  redis.call('HSET', meta, 'born', exact(born), 'schema', '1')
  s, found = {rev = born, born = born, count = 0, seq = 0}, {}
end
place(s, found, first)
bump(s)
for i = SET, set_end, CHUNK do redis.call('HSET', meta, unpack(ARGV, i, math.min(i + CHUNK - 1, set_end))) end
for i = set_end + 1, remove_end, CHUNK do
  redis.call('HDEL', meta, unpack(ARGV, i, math.min(i + CHUNK - 1, remove_end)))
end
if created_at then redis.call('HSET', meta, 'created_at', created_at) end
s.updated_at = redis.call('HGET', meta, 'updated_at')
put(s, found, first)
trim(s, tonumber(ARGV[7]))
expire(had_runs)
list(s)
local owner = redis.call('HMGET', meta, 'user_id', 'workflow_id')
return {'ok', exact(s.rev), s.updated_at, owner[1], owner[2], exact(s.born)}
