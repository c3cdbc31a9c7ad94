-- Put ahead of the scripts that write runs, after _runs.lua.
--
-- A run is six arguments: run_id, created_at in whole seconds, queue_attempt ('' for none),
-- '1' to skip it if it is not stored any more, '0' to skip it if it is stored, '=' .. version to refuse all unless it
-- is stored as of that version ('=' alone: unless it is not stored), or '', the packed head, the packed body with its
-- kind byte.

local RUN_ARGUMENTS = 6
local CHUNK = 5000 -- arguments of one command: `unpack` takes less than 8,000

-- Set fields of meta to values, as they follow each other in ARGV.
local function set(first, last)
  for i = first, last, CHUNK do redis.call('HSET', meta, unpack(ARGV, i, math.min(i + CHUNK - 1, last))) end
end

-- Find what is stored of each run from ARGV[first] on; nil and a refusal if one of them cannot be written.
local function find(first)
  local found = {}
  for i = first, #ARGV, RUN_ARGUMENTS do
    local run = stored(ARGV[i])
    if run == false then return nil, refused('damaged') end
    local mine, unless = ARGV[i + 2], ARGV[i + 3]
    if string.sub(unless, 1, 1) == '=' and unless ~= '=' .. (run and run.version or '') then
      return nil, refused('changed', ARGV[i])
    end
    if run then run.kept = unless == '0' end
    if run and not run.kept and mine ~= '' and run.attempt ~= '' and tonumber(mine) < tonumber(run.attempt) then
      return nil, refused('stale', ARGV[i])
    end
    found[ARGV[i]] = run
  end
  return found
end

-- Return the order of a new run: after all runs of its second; nil if that second is full.
local function next_order(last, created_at)
  local first = created_at * SCALE
  if not last[created_at] then
    local ids = redis.call('ZRANGE', runs, (first + SCALE - 1) / ID_SCALE, first / ID_SCALE, 'BYSCORE', 'REV',
      'LIMIT', 0, 1, 'WITHSCORES')
    last[created_at] = ids[2] and tonumber(ids[2]) * ID_SCALE or first
  end
  last[created_at] = last[created_at] + 1
  return last[created_at] < first + SCALE and last[created_at] or nil
end

-- Decide the place of each run, and count the new ones; nothing is written yet. Return nil and a refusal if
-- there is no room for one.
local function place(s, found, first)
  local last = {}
  s.added = 0
  for i = first, #ARGV, RUN_ARGUMENTS do
    local id = ARGV[i]
    if not found[id] and ARGV[i + 3] ~= '1' then
      local order = next_order(last, tonumber(ARGV[i + 1]))
      if not order then return nil, refused('full', id) end
      s.added = s.added + 1
      found[id] = {score = exact(order), id_score = order / ID_SCALE, attempt = '', new = true}
    end
  end
  s.count, s.seq = s.count + s.added, math.min(s.seq + s.added, LARGEST)
  return true
end

-- Write each run; its head says as of which write, counted from the session's birth, the run is what it is.
local function put(s, found, first)
  local version = exact(s.rev - s.born)
  for i = first, #ARGV, RUN_ARGUMENTS do
    local run = found[ARGV[i]]
    if run and not run.kept then
      local attempt = ARGV[i + 2] ~= '' and ARGV[i + 2] or run.attempt
      if not run.new then remove(run.score) end
      redis.call('ZADD', runs, run.score, 'h' .. attempt .. ':' .. version .. ':' .. ARGV[i + 4],
        run.id_score, 'i' .. ARGV[i], '-' .. run.score, ARGV[i + 5])
    end
  end
end

-- Remove the oldest runs, whole, until at most `max` are left, if a run was added.
local function trim(s, max)
  local excess = s.count - (max or s.count)
  if excess <= 0 or s.added == 0 then return end
  local last = redis.call('ZRANGE', runs, '(0', '(1', 'BYSCORE', 'LIMIT', excess - 1, 1, 'WITHSCORES')
  local id_score = tonumber(last[2])
  redis.call('ZREMRANGEBYSCORE', runs, -id_score * ID_SCALE, -1)
  redis.call('ZREMRANGEBYSCORE', runs, '(0', id_score)
  redis.call('ZREMRANGEBYSCORE', runs, 1, id_score * ID_SCALE)
  s.count = s.count - excess
  redis.call('HSET', meta, 'count', exact(s.count))
end
