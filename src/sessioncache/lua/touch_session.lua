-- Let a session live so much longer; nothing of it changes.
--
-- KEYS, ARGV[1..6], answer: as in _session.lua; without a ttl in ARGV[2] the session never expires.

local s, status = open()
if not s then return {status} end
if ARGV[2] == '' then
  redis.call('PERSIST', meta)
  redis.call('PERSIST', runs)
end
expire(true)
list(s)
return answer(s)
