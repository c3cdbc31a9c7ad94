-- Remove a session, whole, and take it off the indexes given.
--
-- KEYS, ARGV[1..6], result: as in _session.lua. What is left of a damaged session goes too, if it is not known to
-- be another user's. ARGV[7] who deletes, ARGV[8] for how many ms the mark of it stays, '' for no mark.

local s, status, detail = open()
if not s and status ~= 'damaged' then return refused(status, detail) end
redis.call('UNLINK', meta, runs)
if ARGV[8] ~= '' then
  local till = exact(milliseconds + ARGV[8])
  redis.call('HSET', meta, 'deleted', till .. ':' .. ARGV[7])
  redis.call('PEXPIREAT', meta, till)
end
for i = 3, #KEYS do redis.pcall('ZREM', KEYS[i], ARGV[5]) end
return s and answer(s) or refused(status)
