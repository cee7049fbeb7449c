-- Write something, so that WAIT has something to wait for.
--
-- Keys: touched (string).

begin()
call('SET', P .. 'touched', '')
