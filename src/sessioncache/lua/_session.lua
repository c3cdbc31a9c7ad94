-- Put ahead of every other script: what all writes of a session share.
--
-- KEYS[1]   the session's meta (hash)        KEYS[2]  its runs (sorted set)
-- KEYS[3..] indexes the session is listed in (sorted sets); none where they live on other servers
-- ARGV[1]   owner: '' for any; '=' .. user_id for that user or none yet; '!' .. user_id for that user
-- ARGV[2]   ttl in ms, '' to leave it as it is
-- ARGV[3]   rev expected, '' for any                       ARGV[4]  rev at birth expected, '' for any
-- ARGV[5]   session_id                                     ARGV[6]  TTL of the indexes in ms, '' for none
--
-- A script answers {status, rev, updated_at, user_id or false, workflow_id or false, ...}; status is one of
-- ok absent damaged version owner conflict stale. Whatever can fail is checked before the first write, and the
-- first write is one that a full server refuses, for Redis rolls nothing back.

local SCALE, ID_SCALE = 2 ^ 20, 2 ^ 60
local meta, runs = KEYS[1], KEYS[2]
local now = redis.call('TIME')
local seconds, milliseconds = tonumber(now[1]), now[1] * 1000 + math.floor(now[2] / 1000)

local function exact(number) return string.format('%.0f', number) end

-- Return the stored session as a table, or nil and the status that says why not.
local function open()
  local f = redis.call('HMGET', meta, 'rev', 'born', 'count', 'seq', 'user_id', 'workflow_id', 'updated_at', 'schema')
  local members = redis.call('ZCARD', runs)
  if members == 0 and redis.call('EXISTS', meta) == 0 then return nil, 'absent' end
  if f[8] and f[8] ~= '1' then return nil, 'version' end
  for i = 1, 4 do
    if not tonumber(f[i]) or #f[i] > 16 then return nil, 'damaged' end
  end
  if not f[8] or members ~= f[3] * 3 then return nil, 'damaged' end
  if ARGV[4] ~= '' and ARGV[4] ~= f[2] then return nil, 'absent' end
  local rule, owner = string.sub(ARGV[1], 1, 1), string.sub(ARGV[1], 2)
  if rule == '!' and f[5] ~= owner or rule == '=' and f[5] and f[5] ~= owner then return nil, 'owner' end
  if ARGV[3] ~= '' and ARGV[3] ~= f[1] then return nil, 'conflict' end
  return {
    rev = tonumber(f[1]), born = tonumber(f[2]), count = members / 3, seq = tonumber(f[4]),
    user_id = f[5], workflow_id = f[6], updated_at = f[7],
  }
end

-- Keep meta and runs alive for the same time, to the millisecond.
local function expire(had_runs)
  local left = tonumber(ARGV[2])
  if not left and not had_runs then left = redis.call('PTTL', meta) end
  if left and left > 0 then
    redis.call('PEXPIREAT', meta, exact(milliseconds + left))
    redis.call('PEXPIREAT', runs, exact(milliseconds + left))
  end
end

-- List the session in every index given, which lives at least as long as its longest session. An index is
-- only a hint: one that is no sorted set does not undo what is written by now.
local function list(s)
  for i = 3, #KEYS do
    local left = redis.call('PTTL', KEYS[i])
    redis.pcall('ZADD', KEYS[i], s.updated_at, ARGV[5])
    if ARGV[6] == '' then
      if left >= 0 then redis.call('PERSIST', KEYS[i]) end
    elseif left == -2 or (left >= 0 and left < tonumber(ARGV[6])) then
      redis.call('PEXPIRE', KEYS[i], ARGV[6])
    end
  end
end

-- Write the counters of a changed session: the first write of every script.
local function bump(s)
  s.rev, s.updated_at = s.rev + 1, now[1]
  redis.call('HSET', meta, 'rev', exact(s.rev), 'count', exact(s.count), 'seq', exact(s.seq), 'updated_at', now[1])
end

local function answer(s) return {'ok', exact(s.rev), s.updated_at, s.user_id, s.workflow_id} end
