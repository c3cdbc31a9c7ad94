-- Put ahead of the scripts that write runs, after _session.lua.
--
-- A run is six arguments: run_id, created_at in whole seconds, queue_attempt ('' for none),
-- '1' to skip it where it is not stored any more, the packed head, the packed body with its kind byte.

local RUN_ARGUMENTS = 6

-- Find what is stored of each run from ARGV[first] on; nil and the run_id where one is of a later attempt.
-- A run's order is kept as text, its score: Lua would write the number out anew for every command.
local function find(first)
  local found = {}
  for i = first, #ARGV, RUN_ARGUMENTS do
    local mark = redis.call('ZSCORE', runs, 'i' .. ARGV[i])
    if mark then
      local score = exact(tonumber(mark) * ID_SCALE)
      local head = redis.call('ZRANGE', runs, score, score, 'BYSCORE')[1] or ''
      local attempt = string.match(head, '^h(%d*):') or ''
      local mine = ARGV[i + 2]
      if mine ~= '' and attempt ~= '' and tonumber(mine) < tonumber(attempt) then return nil, ARGV[i] end
      found[ARGV[i]] = {score = score, mark = mark, attempt = attempt}
    end
  end
  return found
end

local function next_order(s, created_at)
  local order
  repeat
    s.seq = s.seq + 1
    order = created_at * SCALE + s.seq % SCALE
  until order > 0 and (s.seq < SCALE or redis.call('ZCOUNT', runs, order, order) == 0)
  return order
end

-- Decide the place of each run, and count the new ones; nothing is written yet.
local function place(s, found, first)
  for i = first, #ARGV, RUN_ARGUMENTS do
    local id = ARGV[i]
    if not found[id] and ARGV[i + 3] ~= '1' then
      s.count = s.count + 1
      local order = next_order(s, tonumber(ARGV[i + 1]))
      found[id] = {score = exact(order), mark = order / ID_SCALE, attempt = '', new = true}
    end
  end
end

local function remove(score)
  redis.call('ZREMRANGEBYSCORE', runs, score, score)
  redis.call('ZREMRANGEBYSCORE', runs, '-' .. score, '-' .. score)
end

-- Write each run; its head says as of which write, counted from the session's birth, the run is what it is.
local function put(s, found, first)
  local version = exact(s.rev - s.born)
  for i = first, #ARGV, RUN_ARGUMENTS do
    local run = found[ARGV[i]]
    if run then
      local attempt = ARGV[i + 2] ~= '' and ARGV[i + 2] or run.attempt
      if not run.new then remove(run.score) end
      redis.call('ZADD', runs, run.score, 'h' .. attempt .. ':' .. version .. ':' .. ARGV[i + 4],
        run.mark, 'i' .. ARGV[i], '-' .. run.score, ARGV[i + 5])
    end
  end
end

-- Remove the oldest runs, whole, until at most `max` are left.
local function trim(s, max)
  local excess = s.count - (max or s.count)
  if excess <= 0 then return end
  local mark = tonumber(redis.call('ZRANGE', runs, '(0', '(1', 'BYSCORE', 'LIMIT', excess - 1, 1, 'WITHSCORES')[2])
  redis.call('ZREMRANGEBYSCORE', runs, -mark * ID_SCALE, -1)
  redis.call('ZREMRANGEBYSCORE', runs, '(0', mark)
  redis.call('ZREMRANGEBYSCORE', runs, 1, mark * ID_SCALE)
  s.count = s.count - excess
  redis.call('HSET', meta, 'count', exact(s.count))
end
