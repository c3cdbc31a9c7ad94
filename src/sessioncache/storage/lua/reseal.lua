-- Put values sealed anew in place of the old ones, each only if the old one is still there; nothing else changes.
--
-- KEYS[1] meta (hash), KEYS[2] runs (sorted set); ARGV[1] how many fields, then field, old, new, ..., then the members
-- of runs: score, old, new, ... Returns how many were replaced.

local done, runs_begin = 0, 2 + 3 * ARGV[1]
for i = 2, runs_begin - 1, 3 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
    done = done + 1
  end
end
for i = runs_begin, #ARGV, 3 do
  local score = redis.call('ZSCORE', KEYS[2], ARGV[i + 1])
  if score and tonumber(score) == tonumber(ARGV[i]) then
    redis.call('ZADD', KEYS[2], score, ARGV[i + 2])
    redis.call('ZREM', KEYS[2], ARGV[i + 1])
    done = done + 1
  end
end
return done
