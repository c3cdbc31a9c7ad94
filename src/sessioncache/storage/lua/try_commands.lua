-- Try every command that the scripts that write call, before the first of them runs: Redis checks a permission
-- when a script comes to the command, and rolls nothing back.
--
-- KEYS the keys of the write to come: where it would be refused or redirected, this is. They are not touched.
-- ARGV[1] a key of the same slot that nothing is stored at. It is none of KEYS: absent keys are redirected while
-- their slot moves. Returns {ARGV[1], command, error, ...} with every command that failed. Writes nothing.

local absent = ARGV[1]
local answer = {absent}

local function note(command, error)
  answer[#answer + 1] = command
  answer[#answer + 1] = error
end

local function try(command, ...)
  local reply = redis.pcall(command, ...)
  local error = type(reply) == 'table' and reply.err and tostring(reply.err) -- fakeredis has it in bytes
  -- HSET gets one word too few, which it looks at when its permission has been checked: else it would write.
  if error and not (command == 'HSET' and string.find(error, 'rong number of arg')) then note(command, error) end
  return reply
end

local there = try('EXISTS', absent)
if there == 1 then note('EXISTS', 'the key is there') end
if there ~= 0 then return answer end
try('TIME')
try('DEL', absent)
try('UNLINK', absent)
try('PERSIST', absent)
try('PEXPIRE', absent, 1)
try('PEXPIREAT', absent, 1)
try('PTTL', absent)
try('HSET', absent, 'field', 'value', 'odd')
try('HGET', absent, 'field')
try('HKEYS', absent)
try('HMGET', absent, 'field')
try('HDEL', absent, 'field')
try('ZADD', absent, 'XX', 0, 'member')
try('ZCARD', absent)
try('ZCOUNT', absent, 0, 0)
try('ZRANGE', absent, 0, 0)
try('ZSCORE', absent, 'member')
try('ZREM', absent, 'member')
try('ZREMRANGEBYSCORE', absent, 0, 0)
return answer
