-- Who withdraws an amendment may redeem its coupons again, by another one.

alter table coupon_redemption drop constraint coupon_redemption_pkey, add primary key (coupon_id, subscription_id, cause);
