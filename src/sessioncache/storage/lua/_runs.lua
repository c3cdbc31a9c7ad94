-- Put ahead of the scripts that write or remove runs, after _session.lua.

-- Return what is stored of a run, nil if it is not stored, false if its members do not fit each other.
-- Its order is kept as text, its score: Lua would write the number out anew for every command.
local function stored(run_id)
  local id_score = redis.call('ZSCORE', runs, 'i' .. run_id)
  if not id_score then return nil end
  local score = exact(tonumber(id_score) * ID_SCALE)
  local heads = redis.call('ZRANGE', runs, score, score, 'BYSCORE')
  local attempt, version = string.match(#heads == 1 and heads[1] or '', '^h(%d*):([^:]*)')
  if not attempt or redis.call('ZCOUNT', runs, '-' .. score, '-' .. score) ~= 1 then return false end
  return {score = score, id_score = id_score, attempt = attempt, version = version}
end

local function remove(score)
  redis.call('ZREMRANGEBYSCORE', runs, score, score)
  redis.call('ZREMRANGEBYSCORE', runs, '-' .. score, '-' .. score)
end
