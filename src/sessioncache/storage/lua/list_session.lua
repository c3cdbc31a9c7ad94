-- List a session in an index on another server than the session's own.
--
-- KEYS[1] index (sorted set); ARGV[1] session_id, ARGV[2] updated_at, ARGV[3] TTL in ms or '' for none.
-- Returns 1. A later update that was listed meanwhile stays.

local left = redis.call('PTTL', KEYS[1])
redis.call('ZADD', KEYS[1], 'GT', ARGV[2], ARGV[1])
extend(KEYS[1], left, ARGV[3])
return 1
