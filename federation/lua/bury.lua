-- A message that is accepted but can go nowhere: straight to the dead letters.
-- KEYS  counts, history
-- ARGV  federation, message id, message, recipient, reason
redis.call('HINCRBY', KEYS[1], 'accepted', 1)
redis.call('HINCRBY', KEYS[1], 'dead', 1)
redis.call('XADD', KEYS[2], '*', 'k', 'm', 'f', ARGV[1], 'i', ARGV[2], 'b', ARGV[3])
redis.call('XADD', KEYS[2], '*', 'k', 'd', 'f', ARGV[1], 'i', ARGV[2], 'b', ARGV[3], 'a', ARGV[4], 'r', ARGV[5])
return 1
