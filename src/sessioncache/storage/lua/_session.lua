-- Put ahead of the scripts that write a session, after _index.lua and _changes.lua.
--
-- KEYS[1]   the session's meta (hash)        KEYS[2]  its runs (sorted set)
-- KEYS[3..] indexes the session is listed in (sorted sets); none where they live on other servers
-- ARGV[1]   owner: '' for any; '=' .. user_id for that user or none yet; '!' .. user_id for that user
-- ARGV[2]   ttl in ms, '' to leave it as it is
-- ARGV[3]   rev expected, '' for any                       ARGV[4]  rev at birth expected, '' for any
-- ARGV[5]   session_id                                     ARGV[6]  TTL of the indexes in ms, '' for none
--
-- A script returns {'ok', session_id, rev, rev before, born, updated_at, user_id or false, workflow_id or
-- false, ...}, or {status, session_id}; status is one of absent deleted damaged version owner conflict stale changed
-- full.
-- Whatever can fail is checked before the first write, and the first write is one that a full server refuses,
-- for Redis rolls nothing back. No loop is longer than KEYS, ARGV or the fields of meta.

local SCALE, ID_SCALE, LARGEST, LARGEST_TEXT = 2 ^ 20, 2 ^ 60, 2 ^ 53, '9007199254740992'
local meta, runs = KEYS[1], KEYS[2]
local now = redis.call('TIME')
local milliseconds = now[1] * 1000 + math.floor(now[2] / 1000)
local microseconds = now[1] * 1000000 + now[2]

local deletion -- the field that marks one

local function exact(number) return string.format('%.0f', number) end

-- Return who deleted the session lately, nil if nobody did.
local function deleter()
  local till, who = string.match(deletion or '', '^(%d+):(.*)$')
  return till and tonumber(till) > milliseconds and who or nil
end

-- Return a stored number, nil for anything that reads refuse too: Lua takes 'nan', '0x10' and '1e3' for numbers,
-- and 2^53 + 1 for 2^53.
local function whole(text)
  if not text or #text > 16 or not string.find(text, '^%d+$') then return nil end
  return (#text < 16 or text <= LARGEST_TEXT) and tonumber(text) or nil
end

-- Return the counters of the fields of meta as a table, nil where the session is damaged.
local function counters(f, members)
  local s = {rev = whole(f[1]), born = whole(f[2]), count = whole(f[3]), seq = whole(f[4])}
  local complete = s.rev and s.born and s.count and s.seq and whole(f[7]) and f[8] and f[9] == ARGV[5]
  if not complete or s.born > s.rev or s.rev == LARGEST or members ~= s.count * 3 then return nil end
  local heads, bodies = redis.call('ZCOUNT', runs, 1, '+inf'), redis.call('ZCOUNT', runs, '-inf', -1)
  return heads == s.count and bodies == s.count and s or nil
end

-- Return the stored session as a table, or nil, the status that says why not, and what it is about.
local function open()
  local f = redis.call('HMGET', meta,
    'rev', 'born', 'count', 'seq', 'user_id', 'workflow_id', 'updated_at', 'schema', 'session_id', 'deleted', 'changes')
  if f[8] and f[8] ~= '1' then return nil, 'version' end
  deletion = f[10]
  local members, gone = redis.call('ZCARD', runs), deleter() and 'deleted' or 'absent'
  if members == 0 and (deletion and not f[9] or redis.call('EXISTS', meta) == 0) then return nil, gone end
  local rule, owner = string.sub(ARGV[1], 1, 1), string.sub(ARGV[1], 2)
  local is_foreign = rule == '!' and f[5] ~= owner or rule == '=' and f[5] and f[5] ~= owner
  local s = counters(f, members)
  if not s then return nil, is_foreign and 'owner' or 'damaged' end
  if ARGV[4] ~= '' and ARGV[4] ~= f[2] then return nil, gone end
  if is_foreign then return nil, 'owner' end
  if ARGV[3] ~= '' and ARGV[3] ~= f[1] then return nil, 'conflict', f[1] end
  s.rev_text, s.was, s.born_text, s.user_id, s.workflow_id, s.updated_at = f[1], f[1], f[2], f[5], f[6], f[7]
  s.changes = f[11]
  return s
end

-- Keep meta and runs alive for the same time, to the millisecond.
local function expire(had_runs)
  local left = tonumber(ARGV[2])
  if not left and not had_runs then left = redis.call('PTTL', meta) end
  if left and left >= 0 then
    redis.call('PEXPIREAT', meta, exact(milliseconds + math.max(left, 1)))
    redis.call('PEXPIREAT', runs, exact(milliseconds + math.max(left, 1)))
  end
end

-- List the session in every index given. An index is only a hint: one that is no sorted set does not undo what
-- is written by now.
local function list(s)
  for i = 3, #KEYS do
    local left = redis.call('PTTL', KEYS[i])
    if type(redis.pcall('ZADD', KEYS[i], s.updated_at, ARGV[5])) ~= 'table' then extend(KEYS[i], left, ARGV[6]) end
  end
end

-- Write the counters of a changed session, and the orders of those runs that it writes or removes: the first write of
-- every script. A revision is new even where a failover lost later ones: it is the server's clock, in microseconds,
-- and more than the one before.
local function bump(s, orders)
  s.rev, s.updated_at = math.max(s.rev + 1, microseconds), now[1]
  s.rev_text = exact(s.rev)
  redis.call('HSET', meta, 'rev', s.rev_text, 'count', exact(s.count), 'seq', exact(s.seq), 'updated_at', now[1],
    'changes', changes(s, orders))
end

local function refused(status, ...) return {status, ARGV[5], ...} end

local function answer(s)
  return {'ok', ARGV[5], s.rev_text, s.was, s.born_text, s.updated_at, s.user_id, s.workflow_id}
end
