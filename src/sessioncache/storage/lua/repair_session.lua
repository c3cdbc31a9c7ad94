-- Let both keys of a session live as long as the one that lives longer, and count its runs anew.
--
-- KEYS[1] meta (hash), KEYS[2] runs (sorted set); ARGV[1] the rev it was looked at, ARGV[2] its number of runs, '' to
-- leave it. Returns 1, or 0 if it was written since.

if redis.call('HGET', KEYS[1], 'rev') ~= ARGV[1] then return 0 end
if ARGV[2] ~= '' and redis.call('ZCARD', KEYS[2]) ~= ARGV[2] * 3 then return 0 end
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'count', ARGV[2]) end
local left = {redis.call('PTTL', KEYS[1]), redis.call('PTTL', KEYS[2])}
for i = 1, 2 do
  local other = left[3 - i]
  if left[i] >= 0 and other == -1 then redis.call('PERSIST', KEYS[i]) end
  if left[i] >= 0 and other > left[i] then redis.call('PEXPIRE', KEYS[i], other) end
end
return 1
