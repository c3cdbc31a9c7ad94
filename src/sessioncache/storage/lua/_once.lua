-- Put ahead of upsert_session.lua: a session is created once. If it is there, or if its mark is, nothing is written.
--
-- The last of KEYS is the mark (hash), which outlives the session; the last of ARGV is its TTL in ms, '' for none.

local mark, mark_ttl = table.remove(KEYS), table.remove(ARGV)

local function set_mark()
  redis.call('HSET', mark, 'at', now[1])
  if mark_ttl ~= '' then redis.call('PEXPIRE', mark, mark_ttl) end
end

if redis.call('EXISTS', mark) == 1 then return refused('absent') end
if redis.call('EXISTS', meta) == 1 then
  set_mark()
  return refused('conflict')
end

-- The mark is written with the index, when nothing can be refused any more.
local list_only = list
local function list(s)
  set_mark()
  list_only(s)
end
